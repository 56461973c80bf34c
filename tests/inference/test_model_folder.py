"""A model on disk: written, read back, and refused in one line when anything is wrong with it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.postprocessing import Postprocessing, Rule
from delightsam_pipeline.inference.model_folder import (
    begin_postprocessing,
    load_model,
    load_postprocessing,
    read_weights,
    save_postprocessing,
    save_weights,
    sha256,
)


@pytest.fixture
def copy(model_folder, tmp_path):
    """A copy of the model that a test may spoil."""
    return shutil.copytree(model_folder[0], tmp_path / "copy")


def edit(file, change):
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def test_round_trip(model_folder):
    folder, plans, model = model_folder
    loaded, loaded_plans, card = load_model(folder)
    assert card.provenance == {"note": "random weights"} and list(loaded_plans) == list(plans)
    for head, plan in plans.items():
        assert loaded_plans[head].model_dump(mode="json") == plan.model_dump(mode="json")
    assert not loaded.training and list(loaded.specs) == list(plans)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for head in plans:
            assert all(torch.equal(a, b) for a, b in zip(loaded(images, head), model(images, head), strict=True))


def test_another_checkpoint(copy, model_folder):
    state = {name: value + 1 for name, value in model_folder[2].state_dict().items()}
    save_weights(copy / "best.safetensors", state)
    loaded, _, _ = load_model(copy, "best")
    assert torch.equal(loaded.state_dict()["decoder.fourier"], state["decoder.fourier"])


def test_not_a_model_folder(tmp_path):
    with pytest.raises(UserError, match=r"is not a model folder \(no model.json\)"):
        load_model(tmp_path)


def test_missing_weights(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: the weights are missing"):
        load_model(copy)


@pytest.mark.parametrize("kept", [0, 5, 1000, -100])
def test_damaged_weights(copy, kept):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"model\.safetensors: the weights cannot be read"):
        load_model(copy)


def test_weights_of_another_model_are_named(copy):
    file = copy / "model.safetensors"
    state = read_weights(file)
    head = "heads.Dataset001_MR.queries"
    spoiled = {
        rf"expected {head} \[1, 256\]; found \[3, 256\]": state | {head: torch.zeros(3, 256)},
        rf"expected a tensor {head}; found none": {name: v for name, v in state.items() if name != head},
        "expected no more tensors; found extra": state | {"extra": torch.zeros(1)},
    }
    for message, tensors in spoiled.items():
        save_weights(file, tensors)
        with pytest.raises(UserError, match=rf"model\.safetensors: weights do not fit this model; {message}"):
            load_model(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(extra=1), "extra: Extra inputs are not permitted"),
        (lambda card: card.update(version=2), "version: "),
        (lambda card: card.pop("heads"), "heads: Field required"),
        (lambda card: card["heads"]["Dataset001_MR"].update(targets=10**9), "heads.Dataset001_MR.targets: "),
        (lambda card: card["heads"]["Dataset001_MR"].update(in_channels=0), "heads.Dataset001_MR.in_channels: "),
        (lambda card: card["heads"]["Dataset001_MR"].update(depth=3), "depth: Extra inputs"),
        (lambda card: card["heads"]["Dataset001_MR"].update(targets=2), "does not fit its plan"),
        (lambda card: card["heads"]["Dataset001_MR"].update(modality="CT"), "does not fit its plan"),
        (lambda card: card["heads"].update(Other=card["heads"]["Dataset001_MR"]), "Other.json: does not exist"),
    ],
)
def test_a_description_that_was_tampered_with(copy, change, message):
    edit(copy / "model.json", change)
    with pytest.raises(UserError, match=message):
        load_model(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_description_that_is_none(copy, text):
    (copy / "model.json").write_text(text)
    with pytest.raises(UserError, match=r"model\.json: is not"):
        load_model(copy)


def test_a_plan_that_was_tampered_with(copy):
    edit(copy / "plans" / "Dataset001_MR.json", lambda plan: plan.update(patch_size=[10**6, 64]))
    with pytest.raises(UserError, match=r"Dataset001_MR\.json: is not a valid plan: patch_size"):
        load_model(copy)


def test_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_post_processing_of_heads_is_taken_along_and_that_of_an_earlier_training_goes(copy, model_folder, tmp_path):
    rule = Rule(operation="keep_largest")
    first, second = (Postprocessing(unit="mm3", rules={"lesion": rule}, folds=[0], n_cases=n) for n in (3, 4))
    save_postprocessing(copy, {"Dataset001_MR": first})
    save_postprocessing(copy, {"Dataset002_US": second})
    assert load_postprocessing(copy) == {"Dataset001_MR": first, "Dataset002_US": second}
    new = shutil.copytree(model_folder[0], tmp_path / "new")
    begin_postprocessing(new, copy)
    assert load_postprocessing(new) == load_postprocessing(copy)
    begin_postprocessing(new)
    assert load_postprocessing(new) == {} and not (new / "postprocessing.json").exists()
