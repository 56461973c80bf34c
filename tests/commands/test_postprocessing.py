"""Post-processing as a user meets it: chosen by dlsam_evaluate on the folds, applied by dlsam_predict by itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from delightsam_pipeline.evaluation.postprocessing import Rule, postprocess
from delightsam_pipeline.evaluation.summary import summarise
from delightsam_pipeline.files import read_json, write_json

NAME = "Dataset007_Squares"


@pytest.fixture(scope="module")
def folds(tmp_path_factory, make_pictures):
    """A home with twelve cases, and untrained networks as folds 0, 1 and all that say they were validated on them."""
    from delightsam_pipeline.commands.plan_and_preprocess import main
    from delightsam_pipeline.evaluation.metrics import case_metrics
    from delightsam_pipeline.evaluation.summary import TRAINED_ON, CaseResult
    from delightsam_pipeline.inference.held_out import held_out_labels
    from delightsam_pipeline.inference.model_folder import describe_model, head_spec, save_weights
    from delightsam_pipeline.model.delightsam import DeLightSAM
    from delightsam_pipeline.preprocessing.store import Store

    home = tmp_path_factory.mktemp("folds")
    raw = make_pictures(home / "raw" / NAME, cases=12)
    assert main(["-d", str(raw), "-o", str(home / "preprocessed")]) == 0
    store = Store.load(home / "preprocessed" / NAME)
    every = sorted(store.cases)
    for fold, names in (("0", every[:6]), ("1", every[6:]), ("all", every)):
        torch.manual_seed(len(fold) + int(fold == "1"))
        folder, model = home / "results" / NAME / f"fold_{fold}", DeLightSAM({NAME: head_spec(store.plan)})
        describe_model(folder, model, {NAME: store.plan}, {})
        save_weights(folder / "model.safetensors", model.state_dict())
        cases = [store.cases[name] for name in names]
        labels = {name: case.labels() for name, case in zip(names, cases, strict=True)}
        results = [CaseResult(n, case_metrics(a, a, {"square": (1,)}), n, n) for n, a in labels.items()]
        note = {"note": TRAINED_ON} if fold == "all" else {}
        write_json(folder / "validation" / NAME / "summary.json", summarise(results, {"square": (1,)}) | note)
        if fold != "all":
            for case, labels in held_out_labels(folder, NAME, cases, "cpu"):
                assert labels.shape == (1, 64, 64) and case.name in names
    return home


@pytest.fixture
def home(folds, empty, monkeypatch):
    """A copy of `folds`, in force."""
    monkeypatch.setenv("DLSAM_HOME", str(empty / "home"))
    return Path(shutil.copytree(folds, empty / "home"))


def results(home):
    return home / "results" / NAME


def kept(home):
    return sorted(results(home).glob(f"fold_*/validation/{NAME}/labels/*.npz"))


@pytest.fixture
def specks(home):
    """The label maps that are kept of held-out cases are the references, with two specks far from the square."""
    for file in kept(home):
        with np.load(home / "preprocessed" / NAME / "cases" / f"{file.stem}.labels.npz") as reference:
            labels = reference["labels"].copy()
        labels[0, 56:58, 4:6] = labels[0, 4:6, 58:60] = 1
        with np.load(file) as values:
            key = values["key"]
        np.savez_compressed(file, labels=labels, key=key)
    return home


def chosen(folder):
    return read_json(folder / "postprocessing.json")["heads"][NAME]


def mask(call, home, picture, name, *arguments):
    answer = call("predict", "-i", picture, "-o", name, "--device", "cpu", *arguments)
    assert answer.code == 0, answer
    return np.asarray(Image.open(name)), answer.out


@pytest.fixture
def noise(empty):
    """A picture in which an untrained network finds all sorts of things."""
    file = empty / "new" / "a_0000.png"
    file.parent.mkdir()
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (90, 64)).astype(np.uint8)).save(file)
    return file


def test_specks_are_found_on_the_folds_and_removed_from_new_images(specks, call, noise):
    answer = call("evaluate", "-d", "7", "--device", "cpu")
    assert answer.code == 0, answer
    assert "12 held-out cases of fold 0, 1, each by what was chosen on the other folds" in answer.out
    assert "dlsam_predict from now on, square: remove parts under" in answer.out and "few" not in answer.out
    found = chosen(results(specks) / "fold_0")
    assert found == chosen(results(specks) / "fold_1") == chosen(results(specks) / "fold_all")
    assert found == read_json(results(specks) / "cross_validation" / NAME / "postprocessing.json")
    rule, honest = found["rules"]["square"], found["honest"]["square"]
    assert (found["unit"], found["folds"], found["n_cases"]) == ("share", [0, 1], 12)
    assert rule["operation"] == "remove_smaller" and 4 / 64**2 < rule["size"] < 300 / 64**2
    assert honest["without_rules"] < honest["with_rules"] == 1 and honest["n_better"] == 12
    about = call("info", results(specks) / "fold_1").out
    assert "post-processing: chosen on 12 held-out cases of fold 0, 1" in about
    assert "square: remove parts under" in about and "on cases it was not chosen on" in about


def test_predict_applies_what_stands_in_the_folder_unless_told_not_to(home, call, noise):
    value = {"unit": "share", "folds": [0], "n_cases": 5, "rules": {"square": {"operation": "keep_largest"}}}
    plain, out = mask(call, home, noise, "plain.png", "-f", "0")
    assert "post-processing" not in out
    write_json(results(home) / "fold_0" / "postprocessing.json", {"version": 1, "heads": {NAME: value}})
    left, _ = mask(call, home, noise, "left.png", "-f", "0", "--no-postprocessing")
    done, out = mask(call, home, noise, "done.png", "-f", "0")
    assert "post-processing of square: keep the largest part" in out
    assert np.array_equal(plain, left) and (done < plain).any() and done.any()
    plan = json.loads((results(home) / "fold_0" / "plans" / f"{NAME}.json").read_text())
    from delightsam_pipeline.data.labels import Labels

    expected = postprocess(plain[None], {"square": Rule(operation="keep_largest")}, Labels.from_dict(plan["labels"]), 1)
    assert np.array_equal(done, expected[0])
    for arguments, said in (((), {"square": "keep the largest part"}), (("--no-postprocessing",), {})):
        assert call("predict", "-i", noise.parent, "-o", "masks", "-f", "0", "--device", "cpu", *arguments).code == 0
        assert read_json(Path("masks/run.json"))["postprocessing"] == said


def test_several_folds_are_processed_after_they_are_averaged(home, call, noise):
    value = {"unit": "share", "folds": [0], "n_cases": 5, "rules": {}}
    rules = {"square": {"operation": "keep_largest"}}
    write_json(results(home) / "fold_0" / "postprocessing.json", {"heads": {NAME: value}})
    write_json(
        results(home) / "fold_1" / "postprocessing.json", {"heads": {NAME: value | {"rules": rules, "n_cases": 6}}}
    )
    plain, _ = mask(call, home, noise, "plain.png", "-f", "0", "1", "--no-postprocessing")
    done, out = mask(call, home, noise, "done.png", "-f", "0", "1")
    said = "(square: keep the largest part); run dlsam_evaluate -d"
    assert f"{NAME}: the folds differ in post-processing; applied is what was chosen on most cases {said}" in out
    assert "post-processing of square: keep the largest part" in out
    assert (done <= plain).all() and (done < plain).any()


def test_label_maps_are_predicted_once_and_again_for_other_weights(home, call):
    before = {file: file.stat().st_mtime_ns for file in kept(home)}
    assert len(before) == 12
    answer = call("evaluate", "-d", "7", "--device", "cpu")
    assert answer.code == 0 and "are predicted on" not in answer.out, answer
    assert {file: file.stat().st_mtime_ns for file in kept(home)} == before
    weights = results(home) / "fold_1" / "model.safetensors"
    shutil.copy(results(home) / "fold_all" / "model.safetensors", weights)
    kept(home)[0].write_bytes(b"damaged")
    answer = call("evaluate", "-d", "7", "--device", "cpu")
    assert answer.code == 0 and answer.out.count("are predicted on") == 2, answer
    changed = {file.parents[3].name for file in kept(home) if file.stat().st_mtime_ns != before[file]}
    assert changed == {"fold_0", "fold_1"}
    assert sum(file.stat().st_mtime_ns != before[file] for file in kept(home)) == 7


def test_label_maps_of_another_version_are_predicted_anew(home, call, monkeypatch):
    monkeypatch.setattr("delightsam_pipeline.inference.held_out.__version__", "0.0.0")
    answer = call("evaluate", "-d", "7", "--device", "cpu")
    assert answer.code == 0 and answer.out.count("are predicted on") == 2, answer


def test_a_bad_file_does_not_stand_in_the_way_of_choosing_anew(specks, call):
    bad = results(specks) / "fold_0" / "postprocessing.json"
    bad.write_text('{"heads": 3}')
    kept(specks)[0].unlink()
    answer = call("evaluate", "-d", "7", "--device", "cpu")
    assert answer.code == 0 and "cannot be used and is replaced: is not a valid post-processing" in answer.out, answer
    assert chosen(bad.parent) == chosen(results(specks) / "fold_1")


def test_a_fold_of_another_plan_is_named_and_gets_nothing(specks, call):
    other_plan(results(specks) / "fold_all" / "plans" / f"{NAME}.json")
    answer = call("evaluate", "-d", "7", "--device", "cpu")
    assert answer.code == 0 and "warning: fold_all does not get it: it was trained by another plan" in answer.out
    assert chosen(results(specks) / "fold_0")["rules"]
    assert not (results(specks) / "fold_all" / "postprocessing.json").exists()


def test_a_single_fold_is_enough(specks, call):
    shutil.rmtree(results(specks) / "fold_1")
    answer = call("evaluate", "-d", "7", "--device", "cpu")
    assert answer.code == 0, answer
    assert "6 held-out cases of fold 0, each by what was chosen on the rest of them, in fifths" in answer.out
    assert "that is few: under 10 groups of cases; train further folds" in answer.out
    assert chosen(results(specks) / "fold_0")["rules"]["square"]["evidence"]["interval"] is None


def test_scores_alone(specks, call):
    answer = call("evaluate", "-d", "7", "--no-postprocessing")
    assert answer.code == 0 and "post-processing" not in answer.out, answer
    assert not list(results(specks).rglob("postprocessing.json"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda home: shutil.rmtree(home / "preprocessed"), "has not been preprocessed"),
        (lambda home: (results(home) / "fold_1" / "model.safetensors").unlink(), "the weights are missing"),
        (lambda home: other_plan(results(home) / "fold_1" / "plans" / f"{NAME}.json"), "fold 1 was trained on other"),
    ],
)
def test_where_nothing_can_be_chosen_the_scores_are_written_and_the_reason_is_told(specks, call, spoil, words):
    spoil(specks)
    answer = call("evaluate", "-d", "7", "--device", "cpu")
    assert answer.code == 0 and f"warning: {NAME}: no post-processing is chosen: " in answer.out, answer
    assert words in answer.out
    assert (results(specks) / "cross_validation" / NAME / "summary.json").is_file()
    assert not list(results(specks).rglob("postprocessing.json"))


def other_plan(file):
    write_json(file, read_json(file) | {"patch_size": [96, 96]})


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"square": {"operation": "run"}}, "is not a valid post-processing: heads.Dataset007_Squares.rules.square."),
        ({"circle": {"operation": "keep_largest"}}, "has no class 'circle'; expected square; run dlsam_evaluate"),
    ],
)
def test_a_file_that_was_tampered_with(home, fails, noise, rules, words):
    value = {"unit": "px", "folds": [0], "n_cases": 5, "rules": rules}
    write_json(results(home) / "fold_0" / "postprocessing.json", {"heads": {NAME: value}})
    said = fails("predict", "-i", noise, "-o", "out.png", "-f", "0")
    assert words in said and "run dlsam_evaluate -d" in said
