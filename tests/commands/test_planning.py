"""What a user may say to the planner on the command line, and how it is answered."""

from __future__ import annotations

import json
import logging

import pytest

from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.plans.plan import load_plan
from delightsam_pipeline.preprocessing.run import plan_dataset

PLAN = ("plan_and_preprocess", "-d", "7", "--plan-only")


@pytest.fixture
def plan(call, raw, empty):
    """plan(arguments...) -> the plan that the command wrote, and what it said."""

    def _plan(*arguments):
        answer = call(*PLAN, *arguments)
        assert answer.code == 0, answer
        return load_plan(empty / "dlsam" / "preprocessed" / raw.name / "plan.json"), answer.out

    return _plan


def test_decisions_are_set_and_shown(plan):
    made, said = plan("--set", "patch_size=96x96", "--set", "training.batch_size=2", "--max-size", "128")
    assert (made.patch_size, made.training.batch_size) == ((96, 96), 2)
    assert made.overrides == {"patch_size": [96, 96], "training.batch_size": 2}
    assert "set by the user (the rules would have taken " in said and "the rules would have taken 96 x 96" not in said


def test_what_is_set_counts_for_one_plan_and_that_is_told(plan):
    rules, _ = plan()
    assert "warning" not in plan("--set", "patch_size=96x96", "--set", "input=repeat")[1]
    made, said = plan("--set", "input=repeat")
    assert made.patch_size == rules.patch_size and made.overrides == {"input": "repeat"}
    assert "warning: Dataset007_Squares: the plan before had patch_size=96 x 96; not said again" in said
    assert "warning" not in plan("--set", "input=repeat")[1]


def test_a_set_modality_is_a_given_one(plan, raw):
    made, _ = plan("--set", "modality=OCT")
    assert (made.modality, made.modality_id) == ("OCT", 9)
    file = raw / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"channel_names": {"0": "something"}}))
    assert plan("--set", "modality=OCT")[0].modality == "OCT"  # where the data does not tell


def test_a_model_lends_its_scale(plan, trained):
    model = trained / "results" / "Dataset007_Squares"
    made, said = plan("--plans-from", f"{model}:Squares", "--set", "resampling=cubic")
    called = "results/Dataset007_Squares"  # a plan travels, and the folders of this machine should not
    assert made.plans_from == called and made.resampling == "cubic"
    assert f"from {called}, for fine-tuning" in said
    made, said = plan()
    assert made.plans_from is None and f"the plan before had resampling=cubic, the scale of {called}" in said


def test_what_is_wrong_is_one_line_and_writes_nothing(fails, refuses, raw, empty):
    assert "did you mean patch_size?" in fails(*PLAN, "--set", "patchsize=64x64")
    assert "the modality is given as 'CT' and set as 'MRI'" in fails(*PLAN, "--modality", "CT", "--set", "modality=MRI")
    assert "is not a model folder" in fails(*PLAN, "--plans-from", raw)
    assert "'100' is not a multiple of 32" in refuses(*PLAN, "--max-size", "100")
    assert not (empty / "dlsam" / "preprocessed").exists()


def test_the_same_from_python(raw, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        plan = plan_dataset(load_dataset(raw), tmp_path / "out", overrides={"patch_size": (96, 128)}, max_size=128)
    assert plan.patch_size == (96, 128) and plan == load_plan(tmp_path / "out" / "plan.json")


def test_one_broken_dataset_does_not_hide_the_others(empty, make_pictures, call):
    for name in ("Dataset007_Squares", "Dataset008_Others"):
        make_pictures(empty / "dlsam" / "raw" / name)
    (empty / "dlsam" / "raw" / "Dataset007_Squares" / "imagesTr" / "case1_0000.png").write_bytes(b"")
    answer = call("plan_and_preprocess", "-d", "7", "8", "--plan-only")
    assert answer.code == 2 and "case1_0000.png: cannot be read" in answer.err
    assert (empty / "dlsam" / "preprocessed" / "Dataset008_Others" / "plan.json").is_file()


def test_names_are_looked_up_before_anything_is_done(empty, make_pictures, call):
    make_pictures(empty / "dlsam" / "raw" / "Dataset007_Squares")
    assert call("plan_and_preprocess", "-d", "7", "9", "--plan-only").code == 2
    assert not (empty / "dlsam" / "preprocessed").exists()
