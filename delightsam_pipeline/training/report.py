"""The history of a run: a table (CSV) and a curve picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from delightsam_pipeline.files import writing

History = list[dict[str, Any]]


def write_history(folder: Path, history: History) -> None:
    """Write progress.csv and progress.png, one row and one point per epoch; nothing for an empty history."""
    if not history:
        return
    frame = pd.DataFrame(history)
    with writing(folder / "progress.csv") as file:
        frame.to_csv(file, index=False, float_format="%.6g")
    _picture(folder / "progress.png", frame)


def _picture(file: Path, frame: pd.DataFrame) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 9), layout="constrained")
    losses, scores, patches = figure.subplots(3, sharex=True)
    for name in _shown(frame, "mask_loss", "patch_loss", "feature_error"):
        losses.plot(frame["epoch"], frame[name], label=name.replace("_", " "))
    losses.set_ylabel("training loss")
    for name in frame.columns:
        if name.startswith("dice_") or name == "dice":
            known = frame[frame[name].notna()]
            label = "validation Dice" if name == "dice" else f"validation Dice, {name.removeprefix('dice_')}"
            scores.plot(known["epoch"], known[name], marker="o", markersize=3, label=label)
    scores.set_ylabel("mean Dice")
    scores.set_ylim(0, 1)
    for name in _shown(frame, "patch_precision", "patch_recall"):
        patches.plot(frame["epoch"], frame[name], label=name.replace("_", " "))
    patches.set_ylabel("patch map (training)")
    patches.set_ylim(0, 1)
    patches.set_xlabel("epoch")
    for axes in (losses, scores, patches):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(loc="best", fontsize="small")
    with writing(file) as temporary:
        figure.savefig(temporary, dpi=100)


def _shown(frame: pd.DataFrame, *names: str) -> list[str]:
    return [name for name in names if name in frame]
