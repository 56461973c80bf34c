"""Tensors from files, read safely, and loaded into a network only where every one of them fits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from delightsam_pipeline.errors import UserError


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors or .pth/.pt file; nothing in the file is executed.

    Tensors under a key 'state_dict' or 'model' are unwrapped, and the 'module.' that torch's DataParallel puts before
    every name is left out. Raises UserError when the file is missing, damaged, or holds anything but named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("no such weights file", file=path)
    try:
        if _is_safetensors(path):
            from safetensors.torch import load_file

            return _plain_names(load_file(path))
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"weights cannot be read safely ({reason})", file=path) from None
    for key in ("state_dict", "model"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items()):
        raise UserError("weights file", file=path, expected="a dictionary of tensors", found=type(value).__name__)
    return _plain_names(value)


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    wrapper = "module."
    if not all(name.startswith(wrapper) for name in tensors):
        return tensors
    return {name.removeprefix(wrapper): value for name, value in tensors.items()}


def _is_safetensors(path: Path) -> bool:
    """By content: such a file begins with the length of its JSON header, then the header."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 of names and values."""
    hash_ = hashlib.sha256()
    for name in sorted(tensors):
        hash_.update(name.encode())
        hash_.update(tensors[name].detach().cpu().contiguous().numpy())
    return hash_.hexdigest()


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], file: Path | None = None) -> None:
    """Load every tensor of the model. Raises UserError as `require_fit` does."""
    require_fit(model.state_dict(), tensors, file)
    model.load_state_dict(dict(tensors))


def require_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], file: Path | None = None) -> None:
    """Raises UserError naming the first of a model's `own` tensors that is missing or misshapen, or one too many."""
    for name, value in own.items():
        if name not in tensors:
            raise UserError("weights do not fit this model", file=file, expected=f"a tensor {name}", found="none")
        if tensors[name].shape != value.shape:
            shapes = {"expected": f"{name} {list(value.shape)}", "found": list(tensors[name].shape)}
            raise UserError("weights do not fit this model", file=file, **shapes)
    for name in tensors:
        if name not in own:
            raise UserError("weights do not fit this model", file=file, expected="no more tensors", found=name)
