"""Batches: the same whatever makes them, of the patch's shape, and true to what is stored."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace

import numpy as np
import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.training.augmentation import transforms
from delightsam_pipeline.training.loading import Source, batches, draw, head_of_step, make_batch

STILL = {"rotation_degrees": 0, "scale": (1, 1), "flips": (False, False)}


@pytest.fixture(scope="module")
def stores(make_store, blobs):
    """Two heads, one with rotation and flips, with patches smaller and larger than the pictures."""
    turned = {"rotation_degrees": 180, "scale": (0.7, 1.4), "flips": (True, True)}
    two = {"training": {"batch_size": 2}, "augmentation": turned, "scaling": "spacing", "spacing": (1.0, 1.0)}
    us = make_store("Dataset001_US", "ultrasound", *blobs(3, 80), patch_size=(64, 96), **two)
    photo = make_store("Dataset002_XR", "X-ray", *blobs(3, 64), patch_size=(64, 64), **two)
    return {"us": us, "xr": photo}


@pytest.fixture(scope="module")
def sources(stores):
    return {head: Source.of(store, list(store.cases)) for head, store in stores.items()}


def planned(source, augmentation=None, **training):
    """The source with another plan for augmentation and training."""
    plan = source.plan
    plan = plan.model_copy(
        update={
            "training": plan.training.model_copy(update=training),
            "augmentation": plan.augmentation.model_copy(update=augmentation or {}),
        }
    )
    return replace(source, plan=plan)


def take(sources, count, first=0, workers=0):
    loader = batches(sources, 5, first, workers)
    try:
        return [next(loader) for _ in range(count)]
    finally:
        if workers:
            loader._finish()


def same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a["head"] == b["head"]
        assert np.array_equal(a["images"], b["images"]) and np.array_equal(a["labels"], b["labels"])


@pytest.mark.timeout(120)
def test_workers_and_the_place_of_the_start_change_nothing(sources):
    expected = take(sources, 20)
    np.random.seed(99)  # whatever happened before
    random.seed(99)
    same(take(sources, 20, workers=2), expected)
    same(take(sources, 17, first=3), expected[3:])
    same(take(sources, 17, first=3, workers=3), expected[3:])
    images = [batch["images"] for batch in expected if batch["head"] == "us"]
    assert not np.array_equal(images[0], images[1])


def test_batches_have_the_patches_shape_and_declared_labels(sources):
    seen = set()
    for batch in take(sources, 12):
        side = (64, 96) if batch["head"] == "us" else (64, 64)
        assert batch["images"].shape == (2, 3, *side) and batch["images"].dtype == np.float32
        assert batch["labels"].shape == (2, *side) and batch["labels"].dtype == np.int16
        assert np.isfinite(batch["images"]).all()
        seen |= set(np.unique(batch["labels"]).tolist())
    assert seen == {-1, 0, 1}


def test_every_head_has_its_turn_in_every_round():
    heads = ["a", "b", "c"]
    order = [head_of_step(heads, 1, step) for step in range(60)]
    assert all(sorted(order[i : i + 3]) == heads for i in range(0, 60, 3))
    assert len({tuple(order[i : i + 3]) for i in range(0, 60, 3)}) > 3
    assert order == [head_of_step(heads, 1, step) for step in range(60)]
    assert order != [head_of_step(heads, 2, step) for step in range(60)]


def stored_masks(source):
    return [np.asarray(case.mask()[0]).astype(np.int16) for case in source.cases]


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_flips_run_along_permitted_axes_only(sources, flips):
    source = planned(sources["xr"], STILL | {"flips": flips}, batch_size=1)
    turns = [axes for axes in ((), (0,), (1,), (0, 1)) if all(flips[axis] for axis in axes)]
    allowed = [(axes, np.flip(mask, axes)) for mask in stored_masks(source) for axes in turns]
    pipeline, found = {"xr": transforms(source.plan)}, set()
    for step in range(40):
        labels = make_batch({"xr": source}, pipeline, 0, step)["labels"][0]
        matches = [axes for axes, mask in allowed if np.array_equal(mask, labels)]
        assert matches, f"step {step} shows no permitted view of a stored mask"
        found |= set(matches)
    assert found == set(turns)


def test_images_and_labels_move_together(sources):
    """The lesion is far brighter than anything beside it, whatever is done to both."""
    for batch in take({"us": sources["us"]}, 12):
        for image, labels in zip(batch["images"], batch["labels"], strict=True):
            if (labels == 1).sum() > 100:
                assert image[0][labels == 1].mean() > image[0][labels == 0].mean() + 0.5 * image[0].std()


def test_a_cut_is_the_stored_slice(sources):
    """Before any augmentation the cut is a window of the picture, its edge held outside."""
    source = sources["us"]  # pictures of 80 x 80 on a canvas of 80 x 96, patches of 64 x 64
    for number in range(20):
        image, labels, _ = draw(source, np.random.default_rng(number))
        assert image.shape[1:] == labels.shape == (96, 96)  # a patch and a quarter more on each side
        known = labels != -1
        rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
        inside = np.ix_(rows, columns)
        height, width = len(rows), len(columns)
        found = 0
        for case, mask in zip(source.cases, stored_masks(source), strict=True):
            stored = np.repeat(case.slices()[0], 3, axis=0).astype(np.float32)
            for y in range(80 - height + 1):
                for x in range(80 - width + 1):
                    window = (slice(y, y + height), slice(x, x + width))
                    if (mask[window] == labels[inside]).all():
                        found += np.array_equal(image[:, *inside], stored[:, *window])
        assert found == 1
        assert np.array_equal(image[:, :, 0], image[:, :, columns[0]])
        assert np.array_equal(image[:, 95], image[:, rows[-1]])


def test_every_part_of_a_tiled_picture_is_trained_on(make_store):
    """Patches lie anywhere: the outermost pixels come up as often as their few places for a patch allow."""
    position = np.tile(np.arange(160, dtype=np.uint8), (160, 1))
    masks = [np.ones((160, 160), np.uint8)]
    decisions = {"scaling": "spacing", "spacing": (1.0, 1.0), "patch_size": (96, 96), "augmentation": STILL}
    store = make_store("Dataset004_Wide", "ultrasound", [position] * 2, masks * 2, **decisions)
    source = planned(Source.of(store, list(store.cases)), batch_size=1, foreground_share=0.0)
    values = np.asarray(source.cases[0].slices()[0, 0, 0], np.float32)
    begins = set()
    for number in range(300):
        image, labels, _ = draw(source, np.random.default_rng(number))
        middle = slice(image.shape[2] // 2 - 48, image.shape[2] // 2 + 48)
        assert (labels[middle, middle] == 1).all()  # a patch never reaches beyond the picture
        begins.add(int(np.abs(values - image[0, 48, middle.start]).argmin()))
    assert min(begins) <= 2 and max(begins) >= 62 and len(begins) > 50


@pytest.fixture(scope="module")
def rare(make_store):
    """Large pictures with a few pixels of lesion near the middle; every second picture has none."""
    generator = np.random.default_rng(3)
    images = [generator.integers(0, 255, (256, 256)).astype(np.uint8) for _ in range(4)]
    masks = [np.zeros((256, 256), np.uint8) for _ in range(4)]
    for mask in masks[::2]:
        mask[100:108, 118:126] = 1
    decisions = {"scaling": "spacing", "spacing": (1.0, 1.0), "patch_size": (64, 64), "augmentation": STILL}
    store = make_store("Dataset003_Rare", "ultrasound", images, masks, **decisions)
    return Source.of(store, list(store.cases))


def share_of_foreground(source, share):
    source = planned(source, batch_size=1, foreground_share=share)
    pipeline = {"rare": transforms(source.plan)}
    return np.mean([(make_batch({"rare": source}, pipeline, 0, step)["labels"] == 1).any() for step in range(40)])


def test_foreground_share(rare):
    with_lesion = replace(rare, cases=rare.filled)
    assert share_of_foreground(with_lesion, 1.0) == 1
    assert share_of_foreground(with_lesion, 0.0) < 0.4
    assert 0.3 < share_of_foreground(with_lesion, 0.5) < 0.85
    assert share_of_foreground(rare, 1.0) == 1  # though half of the cases hold none


def test_cases_that_are_not_stored_are_named(stores):
    with pytest.raises(UserError, match=r"not preprocessed; found nobody; run dlsam_plan_and_preprocess"):
        Source.of(stores["us"], ["case0", "nobody"])


@pytest.mark.timeout(90)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_dead_worker_is_an_error_and_no_wait(sources, batch_size):
    """Also where a batch is larger than a pipe holds, so that the worker died in the middle of writing one."""
    loader = batches({"us": planned(sources["us"], STILL, batch_size=batch_size)}, 0, 0, 2)
    try:
        next(loader)
        time.sleep(0.5)  # let the workers fill their queues
        os.kill(loader._processes[0].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="no longer alive"):
            for _ in range(50):
                next(loader)
    finally:
        loader._finish()
