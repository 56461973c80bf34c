"""The history of a run for TensorBoard, which is an extra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delightsam_pipeline.errors import UserError

BOARD = "tensorboard"  # the folder of its files, in that of a run


def require_tensorboard() -> None:
    """Raises UserError when the package is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        fix = "pip install 'delightsam-pipeline[tensorboard]', or leave the option out: progress.png has the curves"
        raise UserError("--tensorboard needs the package tensorboard", fix=fix) from None


class Board:
    """Writes rows of the history to folder/tensorboard; what an earlier sitting wrote after `step` is dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / BOARD), purge_step=step + 1)

    def add(self, row: Mapping[str, Any]) -> None:
        """A point on every curve, at the row's step."""
        for name, value in row.items():
            if name != "step" and value is not None:
                self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()

    def close(self) -> None:
        """No more rows come."""
        self.writer.close()
