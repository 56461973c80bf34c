"""Validation on stored cases: what is measured when, and which cases belong together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from delightsam_pipeline.evaluation.summary import CaseResult, worst_cases
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.model_folder import head_spec
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.training import validation
from delightsam_pipeline.training.validation import WORST, validate, write_validation


@pytest.fixture(scope="module")
def store(make_store, blobs):
    return make_store("Dataset001_US", "ultrasound", *blobs(3), patch_size=(64, 64))


@pytest.fixture
def model(store):
    return DeLightSAM({"us": head_spec(store.plan)}).eval()


def test_distances_are_measured_only_when_asked_for(store, model, tmp_path):
    cases, cpu = list(store.cases.values()), choose_device("cpu")
    cases[:2] = (replace(case, group="patient") for case in cases[:2])
    quick, _ = validate(model, "us", store.plan, cases, cpu)
    whole, views = validate(model, "us", store.plan, cases, cpu, surfaces=True, worst=WORST)
    assert "HD95" not in quick["mean"]["1"] and "unit" not in quick
    assert whole["mean"]["1"]["HD95"] > 0 and whole["unit"] == "px" and whole["tolerance"] == 2
    assert quick["mean"]["1"].items() <= whole["mean"]["1"].items()
    assert [row["group"] for row in whole["metric_per_case"]] == ["patient", "patient", "case2"]
    write_validation(tmp_path, whole, views, store.plan, cases)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["scores.csv", "summary.json", "worst_cases.png"]


def test_only_the_views_that_are_wanted_are_kept(make_store, blobs):
    """A view has all pixels of a slice, and there may be thousands of cases."""
    store = make_store("Dataset001_US", "ultrasound", *blobs(6), patch_size=(64, 64))
    model, cases = DeLightSAM({"us": head_spec(store.plan)}).eval(), list(store.cases.values())
    cpu = choose_device("cpu")
    assert validate(model, "us", store.plan, cases, cpu)[1] == {}
    summary, views = validate(model, "us", store.plan, cases, cpu, shown=["case3"], worst=2)
    lowest = [name for name, _, _ in worst_cases(summary, 2)]
    assert views.keys() == {"case3", *lowest}
    assert all((view.reference == store.cases[name].labels()[0]).all() for name, view in views.items())


def test_the_worst_are_known_before_all_are_seen():
    """In the order in which worst_cases gives them, and never more than that many at once."""
    dice = [0.9, 0.4, None, 0.4, 0.1, 0.8, 0.4, 1.0]
    views, pixels = validation._Views(frozenset({"c0"}), 3), np.zeros((1, 2, 2), np.uint8)
    for number, value in enumerate(dice):
        views.add(CaseResult(f"c{number}", {"lesion": {"Dice": value}}, "", ""), pixels, pixels, 0)
        assert len(views.kept) <= 4
    assert views.kept.keys() == {"c0", "c4", "c1", "c3"}
