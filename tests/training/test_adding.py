"""A head is added to a trained model: it learns, and what was there predicts the same bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.model_folder import load_model
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.setup import Options, start


@pytest.fixture(scope="module")
def cpu():
    return choose_device("cpu")


@pytest.fixture(scope="module")
def stores(make_store, blobs):
    short = {"training": {"batch_size": 2, "steps_per_epoch": 3}, "patch_size": (64, 64)}
    images, masks = blobs(5, seed=3)
    return {
        "us": make_store("Dataset001_US", "ultrasound", *blobs(5, seed=1), **short),
        "us_too": make_store("Dataset002_US", "ultrasound", *blobs(5, seed=2), **short),
        "xr": make_store("Dataset003_XR", "X-ray", [255 - image for image in images], masks, **short),
    }


@pytest.fixture(scope="module")
def old(stores, cpu, tmp_path_factory):
    """The folder of a model of one head."""
    folder = tmp_path_factory.mktemp("old")
    assert train(start({"us": stores["us"]}, folder, Options("0", epochs=1), cpu))
    return folder


def added(stores, head, old, folder, cpu, **options):
    return start({head: stores[head]}, folder, Options("0", epochs=2, add_to=old, **options), cpu)


def logits(folder, head) -> bytes:
    model = load_model(folder)[0]
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        outputs = model(torch.randn(1, 3, 64, 64, generator=generator), head)
    return b"".join(np.ascontiguousarray(value.numpy()).tobytes() for value in outputs)


@pytest.mark.parametrize("head", ["us_too", "xr"])
def test_the_old_head_gives_the_same_bytes(stores, old, cpu, tmp_path, head):
    run = added(stores, head, old, tmp_path, cpu)
    before = {name: value.clone() for name, value in run.model.heads[head].state_dict().items()}
    assert train(run)
    assert logits(tmp_path, "us") == logits(old, "us")
    now = load_model(tmp_path)[0].heads[head].state_dict()
    assert not torch.equal(now["queries"], before["queries"])
    card = json.loads((tmp_path / "model.json").read_text())
    assert list(card["heads"]) == ["us", head] and card["provenance"]["added_to"]["fold"] == "0"
    assert len(card["provenance"]["added_to"]["weights_sha256"]) == 64
    assert list(card["provenance"]["training_cases"]) == [head]
    assert (tmp_path / "plans" / "us.json").read_text() == (old / "plans" / "us.json").read_text()
    assert [folder.name for folder in (tmp_path / "validation").iterdir()] == [head]
    saved = torch.load(tmp_path / "last.pt", weights_only=True)["model"]
    assert not any(name.startswith("encoder.") and name.endswith("fc1.weight") for name in saved)  # frozen, not kept


def test_a_stopped_addition_goes_on(stores, old, cpu, tmp_path):
    asked = iter(range(4))
    assert not train(added(stores, "xr", old, tmp_path / "two", cpu), lambda: next(asked, None) is None)
    assert train(added(stores, "xr", old, tmp_path / "two", cpu))
    assert train(added(stores, "xr", old, tmp_path / "one", cpu))
    assert logits(tmp_path / "two", "xr") == logits(tmp_path / "one", "xr")


def test_going_on_from_another_model_is_refused(stores, old, cpu, tmp_path):
    asked = iter(range(2))
    assert not train(added(stores, "xr", old, tmp_path / "new", cpu), lambda: next(asked, None) is None)
    assert train(start({"us": stores["us"]}, tmp_path / "other", Options("0", epochs=1, seed=1), cpu))
    with pytest.raises(UserError, match=r"last\.pt: belongs to a run with other"):
        added(stores, "xr", tmp_path / "other", tmp_path / "new", cpu)


def test_a_head_that_is_there_is_not_added(stores, old, cpu, tmp_path):
    with pytest.raises(UserError, match="already has a head 'us'"):
        added(stores, "us", old, tmp_path, cpu)


def test_it_is_not_trained_into_the_folder_it_is_added_to(stores, old, cpu):
    before = sorted(file.name for file in old.iterdir())
    with pytest.raises(UserError, match="is the model that is added to"):
        added(stores, "xr", old, old, cpu)
    assert sorted(file.name for file in old.iterdir()) == before
