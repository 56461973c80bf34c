"""Whole runs: what they leave behind, that they go on exactly where they were, and how they end."""

from __future__ import annotations

import json
import logging
import multiprocessing
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.summary import TRAINED_ON
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.training import loop
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.setup import Options, start

EPOCHS, STEPS = 2, 2  # of each of two heads


@pytest.fixture(scope="module")
def stores(make_store, blobs):
    short = {"training": {"batch_size": 2, "steps_per_epoch": STEPS}, "patch_size": (64, 64)}
    return {
        "us": make_store("Dataset001_US", "ultrasound", *blobs(5, seed=1), **short),
        "xr": make_store("Dataset002_XR", "ultrasound", *blobs(5, seed=2), **short),
    }


@pytest.fixture(scope="module")
def cpu():
    return choose_device("cpu")


def begin(stores, folder, cpu, **options):
    return start(stores, folder, Options("0", epochs=EPOCHS, **options), cpu)


@pytest.fixture(scope="module")
def finished(stores, cpu, tmp_path_factory):
    """A whole run: its folder, and copies of its weights and averages."""
    folder = tmp_path_factory.mktemp("run")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run = begin(stores, folder, cpu)
    assert train(run)
    torch.set_num_threads(threads)
    yield SimpleNamespace(folder=folder, run=run, model=run.model.state_dict(), average=run.average.tensors)
    (folder / "last.pt").unlink()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_what_a_run_leaves_behind(finished):
    names = {str(f.relative_to(finished.folder)) for f in finished.folder.rglob("*") if f.is_file()}
    written = ("summary.json", "scores.csv", "worst_cases.png", "progress.png", "progress.npz")
    each = {f"validation/{head}/{file}" for head in ("us", "xr") for file in written}
    plans = {"plans/us.json", "plans/xr.json"}
    files = {"model.json", "model.safetensors", "best.safetensors", "last.pt", "progress.csv", "progress.png"}
    assert names == each | plans | files
    lines = (finished.folder / "progress.csv").read_text().splitlines()
    assert len(lines) == 1 + EPOCHS and lines[0].startswith("epoch,step,learning_rate,mask_loss,patch_loss")
    progress = finished.run.progress
    assert progress.step == 2 * EPOCHS * STEPS and progress.epoch == EPOCHS
    card = json.loads((finished.folder / "model.json").read_text())
    assert list(card["heads"]) == ["us", "xr"] and len(card["provenance"]["training_cases"]["us"]) == 4
    summary = json.loads((finished.folder / "validation/us/summary.json").read_text())
    assert {"dice", "dice_us", "class_dice_us_lesion", "waiting", "learning_rate"} <= progress.history[-1].keys()
    assert 0 <= progress.history[-1]["dice_us"] <= 1 and list(summary["classes"].values()) == ["lesion"]
    assert {"HD95", "NSD"} < summary["mean"]["1"].keys() and "note" not in summary


def test_a_finished_run_only_validates_again(finished, stores, cpu):
    summary = finished.folder / "validation" / "us" / "summary.json"
    kept = {name: (finished.folder / name).stat().st_mtime_ns for name in ("last.pt", "model.safetensors")}
    before = summary.read_text()
    summary.unlink()
    run = begin(stores, finished.folder, cpu)
    assert train(run)
    assert run.progress.step == finished.run.progress.step
    assert summary.read_text() == before
    assert kept == {name: (finished.folder / name).stat().st_mtime_ns for name in kept}


def test_a_finished_run_can_be_stopped_in_its_validation(finished, stores, cpu):
    kept, removed = (finished.folder / "validation" / head / "summary.json" for head in ("us", "xr"))
    before, whole = kept.read_text(), removed.read_text()
    removed.unlink()
    assert not train(begin(stores, finished.folder, cpu), stop=lambda: True)
    assert kept.read_text() == before and not removed.exists()
    removed.write_text(whole)


def test_a_finished_run_has_nothing_to_do(finished, stores, cpu, monkeypatch, caplog):
    """Its last state has the scores of the final validation too, so that a longer run has them in its history."""
    monkeypatch.setattr(loop, "validate", None)
    run = begin(stores, finished.folder, cpu)
    with caplog.at_level(logging.INFO):
        assert train(run)
    assert "already trained and validated; nothing to do" in caplog.text
    assert run.progress.history == finished.run.progress.history
    scores = json.loads((finished.folder / "validation" / "us" / "summary.json").read_text())["mean"]["1"]
    assert run.progress.history[-1]["dice_us"] == scores["Dice"]


def test_what_is_the_best_so_far_is_not_forgotten_when_the_run_is_killed(stores, cpu, tmp_path, monkeypatch):
    class Death(BaseException):
        pass

    def die_with_a_second_best():
        if run.progress.best == 0.7:
            raise Death
        return False

    scores = iter([0.5, 0.7])
    monkeypatch.setattr(loop.Clock, "validation_is_due", lambda clock: True)
    monkeypatch.setattr(loop, "overall", lambda summaries: next(scores))
    run = start(stores, tmp_path, Options("0", epochs=5), cpu)
    with pytest.raises(Death):
        train(run, die_with_a_second_best)
    assert start(stores, tmp_path, Options("0", epochs=5), cpu).progress.best == 0.7


def test_what_is_not_a_run_is_not_removed(stores, cpu, tmp_path):
    """Neither a folder of somebody's own nor a finished model whose last.pt was deleted."""
    (tmp_path / "own" / "plans").mkdir(parents=True)
    (tmp_path / "own" / "plans" / "precious.json").write_text("{}")
    with pytest.raises(UserError, match="holds other files and no model; choose a new folder"):
        train(begin(stores, tmp_path / "own", cpu))
    assert (tmp_path / "own" / "plans" / "precious.json").exists()
    (tmp_path / "model").mkdir()
    for name in ("model.json", "model.safetensors"):
        (tmp_path / "model" / name).write_text("{}")
    with pytest.raises(UserError, match=r"cannot go on \(no last.pt\); use --restart"):
        train(begin(stores, tmp_path / "model", cpu))
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_restart_begins_anew(finished, stores, cpu):
    run = begin(stores, finished.folder, cpu, restart=True)
    assert run.progress.step == 0 and not run.progress.history
    assert not same(run.model.state_dict(), finished.model)


def test_another_seed_is_another_run(finished, stores, cpu):
    with pytest.raises(UserError, match=r"last\.pt: belongs to a run with other cases, plan, seed or first"):
        begin(stores, finished.folder, cpu, seed=1)
    assert begin(stores, finished.folder, cpu, seed=1, restart=True).progress.step == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"learning_rate": 0.01}},
        {"augmentation": {"speckle": 0.5}},
        {"tile_overlap": 0.4},
    ],
)
def test_another_plan_is_another_run(finished, stores, cpu, changes):
    """A run that went on by another plan would say that all of it was made by that."""
    plan = stores["us"].plan
    values = {n: getattr(plan, n).model_copy(update=v) if isinstance(v, dict) else v for n, v in changes.items()}
    planned = {**stores, "us": replace(stores["us"], plan=plan.model_copy(update=values))}
    with pytest.raises(UserError, match="belongs to a run with other cases, plan"):
        begin(planned, finished.folder, cpu)


def test_the_length_of_a_plan_is_no_other_run(finished, stores, cpu):
    longer = stores["us"].plan.training.model_copy(update={"epochs": 999})
    planned = {**stores, "us": replace(stores["us"], plan=stores["us"].plan.model_copy(update={"training": longer}))}
    assert begin(planned, finished.folder, cpu).progress.step == finished.run.progress.step


def test_the_final_weights_are_the_averages(finished):
    averaged = finished.run.averaged_model()
    assert not averaged.training and same(averaged.state_dict(), finished.average)
    assert not same(finished.average, finished.model)


def test_a_killed_loader_process_ends_the_run_with_one_line(stores, cpu, tmp_path):
    def kill() -> bool:
        for child in multiprocessing.active_children():
            child.kill()
        return False

    run = start(stores, tmp_path, Options("0", epochs=50, workers=1), cpu)
    with pytest.raises(UserError, match=r"a loader process has died; .*--workers"):
        train(run, kill)


def test_a_time_budget_ends_the_run(stores, cpu, tmp_path):
    run = start({"us": stores["us"]}, tmp_path, Options("0", seconds=0.5), cpu)
    assert train(run)
    assert run.progress.step < 20
    assert (tmp_path / "validation" / "us" / "summary.json").is_file()


def test_a_time_budget_too_short_for_its_validation_makes_one_step(stores, cpu, tmp_path):
    run = start({"us": stores["us"]}, tmp_path, Options("0", seconds=1e-3), cpu)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert train(run)
    assert run.progress.step == 1 and not same(run.model.state_dict(), before)


def test_fold_all_says_that_its_scores_are_of_training_cases(stores, cpu, tmp_path, caplog):
    run = start({"us": stores["us"]}, tmp_path, Options("all", epochs=1), cpu)
    with caplog.at_level(logging.INFO):
        assert train(run)
    note = json.loads((tmp_path / "validation" / "us" / "summary.json").read_text())["note"]
    assert note == TRAINED_ON and f"note: {note}" in caplog.text


def test_an_unknown_fold(stores, cpu, tmp_path):
    with pytest.raises(UserError, match="no such fold"):
        start(stores, tmp_path, Options("7"), cpu)


def test_pretrained_weights_are_the_start(finished, stores, cpu, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        options = Options("0", epochs=1, pretrained=finished.folder / "model.safetensors")
        run = start(stores, tmp_path, options, cpu)
    assert "one of our models" in caplog.text
    assert same(run.model.state_dict(), finished.average) and same(run.average.tensors, finished.average)
