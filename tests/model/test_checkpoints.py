"""Weights from files: read without running anything, refused when they are no named tensors."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.checkpoints import load_tensors


class CreatesFile:
    """What an attacker would pickle: something that runs when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def tensors():
    return {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.int64)}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"state_dict": t}, lambda t: {"model": t, "epoch": 3}])
def test_pth_is_read(tmp_path, tensors, wrap):
    torch.save(wrap(tensors), tmp_path / "w.pth")
    assert same(load_tensors(tmp_path / "w.pth"), tensors)


def test_what_data_parallel_puts_before_every_name_is_left_out(tmp_path, tensors):
    wrapped = {f"module.{name}": value for name, value in tensors.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "w.pth")
    save_file(wrapped, tmp_path / "w.safetensors")
    assert same(load_tensors(tmp_path / "w.pth"), tensors)
    assert same(load_tensors(tmp_path / "w.safetensors"), tensors)
    mixed = tensors | {"module.c": torch.ones(1)}
    torch.save(mixed, tmp_path / "w.pth")
    assert same(load_tensors(tmp_path / "w.pth"), mixed)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_safetensors_are_read_by_any_name(tmp_path, tensors, name):
    save_file(tensors, tmp_path / name)
    assert same(load_tensors(tmp_path / name), tensors)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_missing_file(tmp_path, ending):
    with pytest.raises(UserError, match=f"weights{ending}: no such"):
        load_tensors(tmp_path / f"weights{ending}")


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 10, -30])
def test_truncated_file(tmp_path, tensors, ending, kept):
    file = tmp_path / f"w{ending}"
    torch.save(tensors, file) if ending == ".pth" else save_file(tensors, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"w\.\w+: weights cannot be read"):
        load_tensors(file)


@pytest.mark.parametrize("save", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value, protocol=2))])
def test_a_pickle_is_not_run(tmp_path, save):
    victim = tmp_path / "created"
    save({"a": torch.ones(1), "b": CreatesFile(victim)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="cannot be read safely"):
        load_tensors(tmp_path / "w.pth")
    assert not victim.exists()
    torch.load(tmp_path / "w.pth", weights_only=False) if save is torch.save else pickle.loads(
        (tmp_path / "w.pth").read_bytes()
    )
    assert victim.exists()  # the file was dangerous


@pytest.mark.parametrize(
    "value", [{"a": 1}, {1: torch.ones(1)}, [torch.ones(1)], {"model": {"a": "text"}}, torch.ones(2)]
)
def test_anything_but_named_tensors_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: weights file; expected a dictionary of tensors"):
        load_tensors(tmp_path / "w.pth")
