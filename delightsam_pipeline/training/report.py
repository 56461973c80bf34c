"""The history of a run as a table (CSV) and a curve picture, and what is said at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from delightsam_pipeline.files import writing
from delightsam_pipeline.training.checkpoint import Progress
from delightsam_pipeline.training.clock import spell

History = list[dict[str, Any]]
CLASS_DICE = "class_dice_"  # begins the name of a column
_MOST_CURVES = 12
_NOT_YET_LEVEL = 0.02  # of Dice, in the last third of the validations


def write_history(folder: Path, history: History, picture: bool = True) -> None:
    """Write progress.csv and progress.png, one row and one point per epoch; nothing for an empty history.

    picture : drawing takes half a second or more, so it is left out where it would soon be drawn again.
    """
    if not history:
        return
    frame = pd.DataFrame(history)
    with writing(folder / "progress.csv") as file:
        frame.to_csv(file, index=False, float_format="%.6g")
    if picture:
        _picture(folder / "progress.png", frame)


def closing(progress: Progress) -> str:
    """What is said at the end of a run: how long, how good and when, and what may be done next."""
    lines = [f"trained for {progress.epoch} epochs ({progress.step} steps) in {spell(progress.elapsed)}"]
    if progress.elapsed:
        lines[0] += f", {min(1.0, progress.waited / progress.elapsed):.0%} of it waiting for data"
    scored = [(row["dice"], row["epoch"]) for row in progress.history if row.get("dice") is not None]
    if scored:
        best, epoch = max(scored)
        lines.append(f"validation Dice {scored[-1][0]:.3f} at the end, at best {best:.3f} after epoch {epoch}")
        before = [dice for dice, _ in scored[: -max(1, len(scored) // 3)]]
        if len(scored) >= 3 and scored[-1][0] > max(before) + _NOT_YET_LEVEL:
            lines.append("it was still rising: the same command with more --epochs, or a larger --time-budget, goes on")
    return "\n".join(lines)


def _picture(file: Path, frame: pd.DataFrame) -> None:
    from matplotlib.figure import Figure

    classes = [name for name in frame.columns if name.startswith(CLASS_DICE)]
    shows_classes = 1 < len(classes) <= _MOST_CURVES
    figure = Figure(figsize=(9, 14 if shows_classes else 12), layout="constrained")
    axes = list(figure.subplots(5 if shows_classes else 4, sharex=True))
    heads = [name for name in frame.columns if name.startswith("dice_") or name == "dice"]
    _curves(axes[0], frame, ("mask_loss", "patch_loss", "feature_error"), "training loss")
    _curves(axes[1], frame, heads, "mean validation Dice", (0, 1), marked=True, without="dice_")
    if shows_classes:
        _curves(axes[2], frame, classes, "validation Dice", (0, 1), marked=True, without=CLASS_DICE)
    _curves(axes[-2], frame, ("patch_precision", "patch_recall", "waiting"), "training", (0, 1))
    _curves(axes[-1], frame, ("learning_rate",), "learning rate")
    axes[-1].set_ylim(bottom=0)
    axes[-1].set_xlabel("epoch")
    with writing(file) as temporary:
        figure.savefig(temporary, dpi=100)


_LABELS = {
    "patch_precision": "patch map, precision",
    "patch_recall": "patch map, recall",
    "waiting": "share of time waiting for data",
    "dice": "mean",
}


def _curves(axes, frame: pd.DataFrame, names, title: str, limits=None, marked: bool = False, without: str = "") -> None:
    for name in names:
        if name in frame:
            known = frame[frame[name].notna()]
            label = _LABELS.get(name, name.removeprefix(without).replace("_", " " if not without else "_"))
            axes.plot(known["epoch"], known[name], marker="o" if marked else None, markersize=3, label=label)
    axes.set_ylabel(title)
    if limits:
        axes.set_ylim(*limits)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc="best", fontsize="small")
