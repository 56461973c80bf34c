"""Batches: the same whatever makes them, of the patch's shape, and true to what is stored."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.training import workers
from delightsam_pipeline.training.augmentation import transforms
from delightsam_pipeline.training.loading import Source, batches, draw, head_of_step, make_batch, turns

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
        loader.close()


def same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a["head"] == b["head"]
        assert np.array_equal(a["images"], b["images"]) and np.array_equal(a["labels"], b["labels"])


@pytest.mark.timeout(120)
def test_workers_and_the_place_of_the_start_change_nothing(sources, monkeypatch):
    expected = take(sources, 20)
    np.random.seed(99)  # whatever happened before
    random.seed(99)
    same(take(sources, 20, workers=1), expected)
    same(take(sources, 17, first=3), expected[3:])
    same(take(sources, 17, first=3, workers=3), expected[3:])
    monkeypatch.setattr(workers, "_has_room", lambda size: False)
    same(take(sources, 9, workers=2), expected[:9])
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


def with_cases(source, count):
    return replace(source, cases=source.cases[:1] * count)


def test_turns_go_by_the_number_of_cases_as_far_as_is_asked(sources):
    uneven = {name: with_cases(sources["us"], count) for name, count in {"tiny": 4, "small": 16, "huge": 1600}.items()}
    assert turns(uneven) == ["tiny", "small", "huge"]
    by_root = Counter(turns(uneven, 0.5))
    assert by_root == {"tiny": 1, "small": 1, "huge": 10}  # none below a quarter of an equal share
    milder = Counter(turns(uneven, 0.2))
    assert milder.total() == 12 and 1 < milder["tiny"] <= milder["small"] < milder["huge"] < 8
    even = {name: with_cases(sources["us"], 10) for name in "abc"}
    assert Counter(turns(even, 0.5)) == {"a": 4, "b": 4, "c": 4}
    order = [head_of_step(turns(uneven, 0.5), 1, step) for step in range(120)]
    assert all(Counter(order[i : i + 12]) == by_root for i in range(0, 120, 12))
    assert len({tuple(order[i : i + 12]) for i in range(0, 120, 12)}) > 3


def test_processes_share_a_batch_out(sources):
    """Together, in their order, they have what one process alone has, also where it does not divide evenly."""
    five = {"us": planned(sources["us"], batch_size=5)}
    whole = next(batches(five, 5, 3, 0))
    parts = [next(batches(five, 5, 3, 0, part=(rank, 2))) for rank in range(2)]
    assert [len(part["cases"]) for part in parts] == [2, 3]
    for name in ("images", "labels", "annotated"):
        assert np.array_equal(np.concatenate([part[name] for part in parts]), whole[name])
    assert parts[0]["cases"] + parts[1]["cases"] == whole["cases"]


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
        image, labels = draw(source, np.random.default_rng(number)).cut(source.plan, with_margin=True)
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
        image, labels = draw(source, np.random.default_rng(number)).cut(source.plan, with_margin=True)
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
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("room", [True, False])
def test_a_dead_worker_is_an_error_and_no_wait(sources, room, monkeypatch):
    """Also without shared memory, where it dies in the middle of writing a batch larger than a pipe holds."""
    monkeypatch.setattr(workers, "_has_room", lambda size: room)
    loader = batches({"us": planned(sources["us"], STILL, batch_size=16)}, 0, 0, 2)
    try:
        next(loader)
        time.sleep(0.2)  # let the workers get ahead
        os.kill(loader.pids[0], signal.SIGKILL)
        with pytest.raises(workers.WorkerDied, match="no longer alive"):
            for _ in range(50):
                next(loader)
    finally:
        loader.close()


def test_what_goes_wrong_in_a_worker_is_said_by_the_parent(make_store, blobs):
    store = make_store("Dataset005_Gone", "ultrasound", *blobs(3, 64))
    (store.folder / "cases" / "case1.slices.npy").write_bytes(b"nothing")
    loader = batches({"a": Source.of(store, ["case1"])}, 0, 0, 1)
    try:
        with pytest.raises(UserError, match=r"case1.slices.npy.*cannot be read"):
            next(loader)
    finally:
        loader.close()


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
def test_files_and_processes_are_let_go(sources):
    def open_files(pid="self"):
        return len(os.listdir(f"/proc/{pid}/fd"))

    before = open_files()
    loader = batches({"us": planned(sources["us"], batch_size=1)}, 0, 0, 1)
    try:
        for _ in range(3):
            next(loader)
        early = open_files(), open_files(loader.pids[0])
        for _ in range(40):
            next(loader)
        late = open_files(), open_files(loader.pids[0])
    finally:
        loader.close()
    assert all(after <= first + 4 for first, after in zip(early, late, strict=True))
    assert open_files() <= before + 2 and not multiprocessing.active_children()
