"""Warnings: each says once what is the matter, and why."""

from __future__ import annotations

import logging
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.training import watch
from delightsam_pipeline.training.checkpoint import Progress
from delightsam_pipeline.training.loading import Source, batches
from delightsam_pipeline.training.ranks import ALONE, Ranks
from delightsam_pipeline.training.setup import Options

CPU = choose_device("cpu")
SIDE = 64
LABELS = {"labels": {"background": 0, "lesion": 1, "dots": 2, "rare": 3, "unseen": 4}}


@pytest.fixture(scope="module")
def store(make_store, blobs):
    """Twelve pictures: a large lesion and single pixels in all, a rare square in the first, "unseen" in the last."""
    images, masks = blobs(12, SIDE)
    for mask in masks:
        mask[2:62:12, 2:62:12] = 2
    masks[0][50:60, 50:60] = 3
    masks[-1][50:60, 50:60] = 4
    return make_store("Dataset001_US", "ultrasound", images, masks, entries=LABELS, patch_size=(SIDE, SIDE))


@pytest.fixture
def run(store, tmp_path):
    """A run that trains on all cases but the last."""
    cases = list(store.cases.values())
    last = next(case for case in cases if case.present[3])
    source = Source.of_cases(store.plan, [case for case in cases if case is not last])
    return SimpleNamespace(
        folder=tmp_path,
        sources={"us": source},
        held_out={"us": [last]},
        options=Options("0"),
        progress=Progress(step=1000),
        device=CPU,
        length=SimpleNamespace(steps_per_epoch=250),
        ranks=ALONE,
    )


@pytest.fixture
def warned(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def with_training(source, **changes):
    plan = source.plan
    return Source(
        plan.model_copy(update={"training": plan.training.model_copy(update=changes)}), source.cases, source.filled
    )


def test_a_class_that_is_only_held_out(run, warned):
    watch.at_start(run)
    watch.at_start(run)
    (text,) = warned()
    assert text.startswith("us, class 'unseen': in none of the 11 training cases of fold 0, so it cannot be learned")
    assert "the one case with it is held out; choose another fold" in text


def test_a_class_that_is_seldom_drawn(run, warned):
    source = with_training(run.sources["us"], batch_size=1, foreground_share=0.0)
    rare = [case for case in source.cases if case.present[2]]
    others = [case for case in source.cases if not case.present[2]]
    run.sources["us"] = Source.of_cases(source.plan, rare + 10 * others)
    watch.at_start(run)
    said = "class 'rare': shown by 1 of 101 training cases, in 1 slices, so it comes only about every 101 steps"
    assert any(said in text for text in warned())


def test_the_share_of_draws_is_what_the_loader_draws(run):
    source = with_training(run.sources["us"], batch_size=8, foreground_share=0.5)
    case = next(case for case in source.cases if case.present[2])
    expected, drawn = watch.share_of_draws(source, 2), Counter()
    loader = batches({"us": source}, 1, 0, 0)
    for _ in range(40):
        drawn.update(next(loader)["cases"])
    assert drawn[case.name] / drawn.total() == pytest.approx(1 / 11, abs=0.04)
    # a third of the foreground draws of that case, of three classes, look for it; the others may hold it too
    assert expected == pytest.approx(0.5 / 11 / 3 + 0.5 / 11)


def summary(dice, n_pred):
    rows = [{"metrics": {"1": {"n_pred": n, "n_ref": 30}}} for n in n_pred]
    return {"us": {"classes": {"1": "lesion"}, "mean": {"1": {"Dice": dice}}, "metric_per_case": rows}}


def of_dots(said):
    """The same of the second class."""
    rows = [{"metrics": {"1": {"n_pred": 9}, "2": row["metrics"]["1"]}} for row in said["us"]["metric_per_case"]]
    mean = {"1": {"Dice": 0.9}, "2": said["us"]["mean"]["1"]}
    return {"us": {"classes": {"1": "lesion", "2": "dots"}, "mean": mean, "metric_per_case": rows}}


def test_dice_0_is_explained_once_and_not_too_early(run, warned):
    watch.after_validation(run, summary(0.0, [0, 0]), done=0.1)
    watch.after_validation(run, summary(0.5, [9, 9]), done=0.5)
    watch.after_validation(run, summary(None, [0, 0]), done=0.5)
    assert not warned()
    for _ in range(2):
        watch.after_validation(run, summary(0.0, [0, 0]), done=0.5)
    (text,) = warned()
    assert text == (
        "us, class 'lesion': validation Dice is 0.00: it is never predicted. 11 of 11 training cases show it; "
        "more such cases may help"
    )


def test_dice_0_is_looked_into_once_and_by_the_first_alone(run, warned):
    run.ranks = Ranks(1, 2)
    watch.after_validation(run, summary(0.0, [0]), done=0.5)
    assert not warned() and not run.progress.told
    run.ranks = ALONE
    watch.after_validation(run, summary(0.0, [0]), done=0.5)
    run.sources["us"] = SimpleNamespace(cases=None)  # what could be looked at is gone
    watch.after_validation(run, summary(0.0, [0]), done=0.6)
    assert len(warned()) == 1


def test_dice_0_after_few_steps(run, warned):
    run.progress.step = 60
    watch.after_validation(run, summary(0.0, [0]), done=0.5)
    assert "after 60 steps that may only be too early; train longer" in warned()[0]


def test_dice_0_elsewhere(run, warned):
    watch.after_validation(run, summary(0.0, [20, 30]), done=0.5)
    assert "50 pixels are predicted, but elsewhere" in warned()[0]


def test_dice_0_of_what_is_smaller_than_the_grid_of_masks(run, warned):
    assert watch.on_mask_grid(run.sources["us"], 1) < 0.2 < 0.8 < watch.on_mask_grid(run.sources["us"], 0)
    watch.after_validation(run, of_dots(summary(0.0, [0, 0])), done=0.5)
    (text,) = warned()
    assert "class 'dots'" in text and "smaller than the grid of masks, whose cells are 4 x 4 pixels" in text


def history(dice, loss):
    steps = range(10, 10 * (len(dice) + 1), 10)
    return [{"epoch": s // 10, "step": s, "dice": d, "mask_loss": v} for s, d, v in zip(steps, dice, loss, strict=True)]


RISING = list(np.linspace(0.3, 0.8, 12))


def test_plateau():
    flat, same_loss = [*RISING, *[0.8] * 10], [0.5] * 22
    assert watch.plateau(history(RISING, [0.5] * 12), 0.9) is None
    assert watch.plateau(history(flat, same_loss), 0.5) is None  # a quarter of the training
    text = watch.plateau(history(flat, same_loss), 0.9)
    assert text.startswith("validation Dice has not risen since epoch 12 (0.800); it often rises once more")


def test_overfitting_is_a_plateau_that_falls_while_the_loss_does():
    dice, falling = [*RISING, *np.linspace(0.78, 0.7, 10)], list(np.linspace(0.9, 0.1, 22))
    assert "learned by heart" in watch.plateau(history(dice, falling), 0.9)
    assert "learned by heart" not in watch.plateau(history(dice, [0.5] * 22), 0.9)


def row(waiting):
    return {"waiting": waiting, "dice": None}


def test_waiting_for_data(run, warned, monkeypatch):
    monkeypatch.setattr(watch, "cores", lambda: 4)
    watch.after_epoch(run, row(0.9), 0.5, sitting_epoch=1)  # the loader starts
    watch.after_epoch(run, row(0.1), 0.5, sitting_epoch=2)
    assert not warned()
    watch.after_epoch(run, row(0.6), 0.5, sitting_epoch=2)
    watch.after_epoch(run, row(0.7), 0.6, sitting_epoch=3)
    assert warned() == ["training waits for data 60% of the time: give more --workers (there are 0, and 4 cores)"]
