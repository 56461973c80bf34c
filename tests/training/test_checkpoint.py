"""Saved states: taken up whole, refused in one line, never run."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.training.averaging import Average
from delightsam_pipeline.training.checkpoint import Progress, load_checkpoint, save_checkpoint


class CreatesFile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def parts(seed):
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    average = Average(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()
        average.update(model, step + 1)
    return model, average, optimizer


@pytest.fixture
def saved(tmp_path):
    file = tmp_path / "last.pt"
    progress = Progress(3, 1, 12.5, 2.0, 11.0, 0.7, [{"epoch": 1, "dice": None, "mask_loss": 0.5}])
    save_checkpoint(file, *parts(0), progress, "setup")
    return file


def test_round_trip(saved):
    (model, average, optimizer), (other, *rest), progress = parts(0), parts(1), Progress()
    load_checkpoint(saved, other, *rest, progress, "setup")
    assert progress == Progress(3, 1, 12.5, 2.0, 11.0, 0.7, [{"epoch": 1, "dice": None, "mask_loss": 0.5}])
    assert torch.equal(other.weight, model.weight)
    assert torch.equal(rest[0].tensors["weight"], average.tensors["weight"])
    moments = [o.state_dict()["state"][0]["exp_avg"] for o in (optimizer, rest[1])]
    assert torch.equal(*moments) and moments[0].any()


@pytest.mark.parametrize("kept", [0, 100, -200])
def test_damaged(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"last\.pt: cannot be read.*--restart"):
        load_checkpoint(saved, *parts(0), Progress(), "setup")


def test_other_setup(saved):
    with pytest.raises(UserError, match=r"last\.pt: belongs to a run with other.*--restart"):
        load_checkpoint(saved, *parts(0), Progress(), "another")


def test_other_version(saved):
    state = torch.load(saved, weights_only=True)
    torch.save(state | {"version": 99}, saved)
    with pytest.raises(UserError, match=r"another version; expected 1; found 99; use --restart"):
        load_checkpoint(saved, *parts(0), Progress(), "setup")


@pytest.mark.parametrize("value", [{"version": 1}, [1, 2], 7])
def test_something_else(saved, value):
    torch.save(value, saved)
    with pytest.raises(UserError, match=r"last\.pt: cannot be read"):
        load_checkpoint(saved, *parts(0), Progress(), "setup")


def test_a_pickle_is_not_run(saved, tmp_path):
    victim = tmp_path / "created"
    state = torch.load(saved, weights_only=True)
    torch.save(state | {"model": CreatesFile(victim)}, saved)
    with pytest.raises(UserError, match=r"last\.pt: cannot be read"):
        load_checkpoint(saved, *parts(0), Progress(), "setup")
    assert not victim.exists()


def test_a_failed_save_leaves_what_stood_there(saved):
    before = saved.read_bytes()
    model, average, optimizer = parts(0)
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        save_checkpoint(saved, model, average, optimizer, Progress(history=[lambda: 0]), "setup")
    assert saved.read_bytes() == before
    assert [f.name for f in saved.parent.iterdir()] == ["last.pt"]
