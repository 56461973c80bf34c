"""Folds: which are there, which are taken, and what several predict together."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from delightsam_pipeline.commands.models import find_models

CASES = [f"case{number}" for number in range(6)]
PATIENT = ["case0", "case3"]  # five groups
NAME = "Dataset009_Patients"


@pytest.fixture(scope="module")
def two(tmp_path_factory, make_pictures, shorten):
    """A home folder with six cases of five patients, and two folds of them trained for one step."""
    from delightsam_pipeline.commands.plan_and_preprocess import main as preprocess
    from delightsam_pipeline.commands.train import main as train

    home = tmp_path_factory.mktemp("two")
    raw = make_pictures(home / "raw" / NAME, len(CASES), group=dict.fromkeys(PATIENT, "patient"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLSAM_HOME", str(home))
        assert preprocess(["-d", str(raw)]) == 0
        shorten(home / "preprocessed" / NAME)
        for fold in "01":
            assert train(["9", fold, "--epochs", "1", "--seed", fold]) == 0
    return home


@pytest.fixture
def home(two, empty, monkeypatch):
    """The home of `two`, in force."""
    monkeypatch.setenv("DLSAM_HOME", str(two))
    return two


def test_end_to_end_each_fold_holds_out_its_own_patients(home):
    splits = json.loads((home / "preprocessed" / NAME / "splits_final.json").read_text())
    assert sorted(name for split in splits for name in split["val"]) == CASES
    assert [split["val"] for split in splits].count(PATIENT) == 1
    for fold in (0, 1):
        folder = home / "results" / NAME / f"fold_{fold}"
        summary = json.loads((folder / "validation" / NAME / "summary.json").read_text())
        assert [case["name"] for case in summary["metric_per_case"]] == splits[fold]["val"]
        provenance = json.loads((folder / "model.json").read_text())["provenance"]
        assert provenance["training_cases"][NAME] == splits[fold]["train"]


def logits_by_hand(folder: Path, file: Path):
    """Mask logits [1, K, H/4, W/4] of a picture by one fold's network, and what turns logits into labels."""
    from delightsam_pipeline.data.formats import read_image
    from delightsam_pipeline.inference.model_folder import load_model
    from delightsam_pipeline.inference.segment import reduce
    from delightsam_pipeline.preprocessing.preparation import Preparation, place, stack

    network, plans, _ = load_model(folder)
    slices, back = Preparation(plans[NAME]).image(read_image(file))
    canvas = torch.from_numpy(place(stack(slices, 0, plans[NAME].input)[None], back))
    rows, columns = map(torch.from_numpy, back.matrices())
    with torch.inference_mode():
        logits = network(canvas, NAME)[0]
    return logits, lambda values: reduce(values, rows, columns, plans[NAME].targets)[0].numpy()


def test_end_to_end_several_folds_predict_what_their_mean_logits_say(home, call):
    from delightsam_pipeline.inference.model_folder import sha256

    file = home / "raw" / NAME / "imagesTr" / "case4_0000.png"
    folders = [home / "results" / NAME / f"fold_{fold}" for fold in (0, 1)]
    answer = call("predict", "-i", file, "-o", "both", "-f", "0", "1")
    assert answer.code == 0, answer
    assert "2 networks: about 2 times the time of one fold" in answer.out
    (first, labels), (second, _) = (logits_by_hand(folder, file) for folder in folders)
    result = np.asarray(Image.open("both/case4.png"))
    close = [np.mean(result != labels(logits)) < 0.01 for logits in ((first + second) / 2, first, second)]
    assert close == [True, False, False]
    weights = [folder / "model.safetensors" for folder in folders]
    record = json.loads(Path("both/run.json").read_text())
    assert record["weights"] == [{"file": str(file), "sha256": sha256(file)} for file in weights]


def test_end_to_end_one_fold_is_the_default(home, call):
    answer = call("predict", "-i", home / "raw" / NAME / "imagesTr" / "case4_0000.png", "-o", "mask.png")
    assert answer.code == 0, answer
    assert "of the folds 0, 1, fold_0 is used; choose another, or several, with -f" in answer.out
    assert "networks" not in answer.out


# which folds are taken


@pytest.fixture
def results(empty):
    """results(folds...): a results folder whose folds nothing can be done with but to be found."""

    def _results(*folds: str) -> Path:
        folder = empty / "dlsam" / "results" / NAME
        for fold in folds:
            (folder / f"fold_{fold}").mkdir(parents=True)
            (folder / f"fold_{fold}" / "model.json").write_text("{}")
        return folder

    return _results


@pytest.mark.parametrize(
    ("there", "wanted", "taken"),
    [
        (["10", "2"], None, ["2"]),
        (["0", "all", "1"], None, ["all"]),
        (["0", "1", "2"], ["2", "0"], ["2", "0"]),
        (["0", "all"], ["all"], ["all"]),
    ],
)
@pytest.mark.parametrize("by_folder", [True, False])
def test_folds_that_are_taken(results, there, wanted, taken, by_folder):
    folder = results(*there)
    found = find_models(folder if by_folder else None, None, wanted)
    assert [fold.resolve() for fold in found] == [folder / f"fold_{fold}" for fold in taken]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["0", "0"], "a fold is named twice; found 0; name each fold once"),
        (["1", "0", "1", "0"], "a fold is named twice; found 0, 1"),
        (["0", "all"], "fold all has seen every case, and is not combined with others; found 0 all"),
        (["0", "7"], "Dataset009_Patients: fold 7 has not been trained; found 0, 1, all"),
        (["0,1"], "fold 0,1 has not been trained; found 0, 1, all"),
    ],
)
def test_folds_that_are_refused(results, picture, fails, wanted, words):
    results("all", "1", "0")
    assert words in fails("predict", "-i", picture, "-o", "out", "-f", *wanted)
    assert not Path("out").exists()


def test_one_patient_is_one_fold(empty, make_pictures, call, fails):
    group = dict.fromkeys(CASES[:3], "patient")
    make_pictures(empty / "dlsam" / "raw" / NAME, 3, group=group)
    answer = call("plan_and_preprocess", "-d", "9")
    assert "all cases are one group, so there is one fold, validated on what it trains on" in answer.out
    assert "no such fold; expected 0, or all; found 1" in fails("train", "9", "1")
