"""Validation on stored cases: what is measured when, and which cases belong together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.model_folder import head_spec
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.training.validation import validate, write_validation


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
    whole, views = validate(model, "us", store.plan, cases, cpu, surfaces=True)
    assert "HD95" not in quick["mean"]["1"] and "unit" not in quick
    assert whole["mean"]["1"]["HD95"] > 0 and whole["unit"] == "px" and whole["tolerance"] == 2
    assert quick["mean"]["1"].items() <= whole["mean"]["1"].items()
    assert [row["group"] for row in whole["metric_per_case"]] == ["patient", "patient", "case2"]
    write_validation(tmp_path, whole, views, store.plan, cases)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["scores.csv", "summary.json", "worst_cases.png"]
