"""dlsam_train with --add-to and --teacher, as a user types them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delightsam_pipeline.evaluation.postprocessing import Postprocessing, Rule
from delightsam_pipeline.inference.model_folder import load_postprocessing, save_postprocessing

OLD, NEW = "Dataset007_Squares", "Dataset008_Dark"


@pytest.fixture(scope="module")
def homes(trained, make_pictures, shorten, tmp_path_factory):
    """A copy of the home of `trained` with a second preprocessed dataset, of another modality."""
    from delightsam_pipeline.commands.plan_and_preprocess import main

    home = tmp_path_factory.mktemp("both") / "home"
    shutil.copytree(trained, home)
    raw = make_pictures(home / "raw" / NEW, modality="X-ray")
    assert main(["-d", str(raw), "-o", str(home / "preprocessed")]) == 0
    for name in (OLD, NEW):
        shorten(home / "preprocessed" / name)
    return home


@pytest.fixture
def both(homes, empty, monkeypatch):
    """The home of `homes`, in force."""
    monkeypatch.setenv("DLSAM_HOME", str(homes))
    return homes


def mask(call, model, picture, output, *arguments):
    answer = call("predict", "-i", picture, "-o", output, "-m", model, *arguments)
    assert answer.code == 0, answer
    return np.asarray(Image.open(output))


def test_a_modality_in_five_commands(both, call, picture):
    """Those of docs/how-to/add-a-modality.md, but for preprocessing, which is done."""
    old = both / "results" / OLD / "fold_0"
    answer = call("train", "008", "0", "--add-to", old, "--epochs", "1")
    assert answer.code == 0, answer
    new = both / "results" / f"{OLD}+{NEW}" / "fold_0"
    assert str(new) in answer.out
    told = json.loads(call("info", new, "--json").out)
    assert list(told["heads"]) == [OLD, NEW] and told["heads"][NEW]["modality"] == "X-ray"
    assert set(told["parameters"]["controllers"]) == {"ultrasound", "X-ray"}
    mask(call, new, picture, Path("new.png"), "--head", "008")
    same = mask(call, new, picture, Path("old.png"), "--head", "007")
    assert np.array_equal(same, mask(call, old, picture, Path("before.png")))
    answer = call("evaluate", "-d", "007+008")
    assert answer.code == 0 and f"{OLD} is left out: it was not validated here" in answer.out
    assert (new.parent / "cross_validation" / NEW / "summary.json").is_file()


def test_post_processing_of_old_heads_goes_along_and_that_of_old_weights_goes(both, call, picture):
    everything = Rule(operation="remove_smaller", size=1e9)
    chosen = {OLD: Postprocessing(unit="px", rules={"square": everything}, folds=[0], n_cases=8)}
    old = shutil.copytree(both / "results" / OLD / "fold_0", "old")
    save_postprocessing(Path(old), chosen)
    command = ("train", "008", "0", "--add-to", old, "-o", "added", "--epochs")
    assert call(*command, "1").code == 0
    assert load_postprocessing(Path("added")) == chosen
    assert not mask(call, "added", picture, Path("same.png"), "--head", "007").any()
    save_postprocessing(Path("added"), {NEW: chosen[OLD]})
    assert call(*command, "2").code == 0
    assert load_postprocessing(Path("added")) == chosen


def test_distillation_is_stopped_by_nothing_and_goes_on(both, call, monkeypatch):
    monkeypatch.setattr("delightsam_pipeline.model.teacher.WIDE", (32, 64, 64, 96))
    command = ("train", "007+008", "0", "--teacher", "wide", "--epochs", "2", "-o", "model")
    answer = call(*command)
    assert answer.code == 0, answer
    assert "held-out feature error before" in answer.out and "held-out feature error after" in answer.out
    assert "model in model" in answer.out
    again = call(*command)
    assert again.code == 0 and "loss " not in again.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-refinement"], "--no-refinement does nothing without --teacher"),
        (["--feature-cache", "0"], "--feature-cache does nothing without --teacher"),
        (["--teacher", "wide", "--add-to", "x"], "--add-to and --teacher exclude each other"),
        (["--pretrained", "x", "--add-to", "x"], "--add-to and --pretrained exclude each other"),
        (["--teacher", "absent.pth"], "absent.pth: no such weights file; give a file of SAM's weights, or wide"),
        (["--add-to", "absent"], "absent: is not a model folder"),
    ],
)
def test_what_cannot_be(both, fails, arguments, said):
    assert said in fails("train", "008", "0", "--epochs", "1", "-o", "model", *arguments)
    assert not Path("model").exists()
