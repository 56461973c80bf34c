"""Tensors from files, read safely, and loaded into a network only where every one of them fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from delightsam_pipeline.errors import UserError


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors or .pth/.pt file; nothing in the file is executed.

    Raises UserError when the file is missing, damaged, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("no such weights file", file=path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"weights cannot be read safely ({reason})", file=path) from None
    for key in ("state_dict", "model"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict) or not all(isinstance(v, Tensor) for v in value.values()):
        raise UserError("weights file", file=path, expected="a dictionary of tensors", found=type(value).__name__)
    return value


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], file: Path | None = None) -> None:
    """Load every tensor of the model. Raises UserError naming the first that is missing, unknown or misshapen."""
    own = model.state_dict()
    for name, value in own.items():
        if name not in tensors:
            raise UserError("weights do not fit this model", file=file, expected=f"a tensor {name}", found="none")
        if tensors[name].shape != value.shape:
            shapes = {"expected": f"{name} {list(value.shape)}", "found": list(tensors[name].shape)}
            raise UserError("weights do not fit this model", file=file, **shapes)
    for name in tensors:
        if name not in own:
            raise UserError("weights do not fit this model", file=file, expected="no more tensors", found=name)
    model.load_state_dict(dict(tensors))
