"""How large the network sees things: the scale, the input size, and whether images go whole or in tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delightsam_pipeline.plans.fingerprint import Fingerprint
from delightsam_pipeline.plans.survival import CELLS, largest_cell, surviving

STRIDE = 4  # masks are decoded on a grid four times coarser than the input
SURVIVAL = 0.95  # Dice that every class must keep on that grid
SMALLEST_SIDE = 224  # larger images are not shrunk below it: context and texture have to survive as well
LARGEST_ENLARGEMENT = 4.0
WHOLE_PIXELS = 512 * 512  # more than this is cut into tiles
TILE_SIDE = 384
TOLERANCE = 0.1  # how far a side may move to a cheaper multiple of 32
FIT_LOSS = 0.02  # Dice that whole images may lose, on the mask grid, against tiles of one scale


@dataclass(frozen=True)
class Layout:
    """scaling, spacing, patch_size and tile_overlap of a plan."""

    scaling: str
    spacing: tuple[float, float]
    patch: tuple[int, int]
    overlap: float


def choose_layout(print_: Fingerprint, axis: int, reasons: dict[str, str]) -> Layout:
    """The layout for slices along `axis`; its reasons are added to `reasons`."""
    rows, columns = (a for a in range(3) if a != axis)
    sizes = np.array([(case.shape[rows], case.shape[columns]) for case in print_.cases], float)
    spacings = np.array([(case.spacing[rows], case.spacing[columns]) for case in print_.cases])
    native = np.median(spacings, axis=0)
    extents = sizes * spacings / native  # in pixels of the median spacing
    typical = np.median(extents, axis=0)
    scale, reasons["spacing"] = _scale(print_, typical)
    # volumes share a spacing, so nearly all of them have to fit; pictures are made to fit
    wanted = scale * (np.percentile(extents, 95, axis=0) if print_.physical else typical)
    large = np.prod(wanted) > WHOLE_PIXELS
    if print_.physical:
        scaling, reasons["scaling"] = "spacing", "files have a spacing in mm: every case is brought to the same one"
    else:
        scaling, reasons["scaling"] = _picture_scaling(print_, extents, scale, wanted)
    patch = _cheapest(np.minimum(wanted, TILE_SIDE) if large else wanted)
    factor = 1.0 if large else float(np.min(np.array(patch) / wanted))
    if scaling == "spacing" and not large:
        factor = min(factor, 1.0)
    spacing = native / (scale * factor)
    tiled = large or (scaling == "spacing" and not print_.physical)
    _patch_reasons(large, tiled, wanted, reasons)
    return Layout(scaling, (float(spacing[0]), float(spacing[1])), patch, 0.5 if tiled else 0.25)


def _scale(print_: Fingerprint, typical: np.ndarray) -> tuple[float, str]:
    """Input pixels per pixel of the median spacing, and why."""
    curves: dict[str, list] = {}
    for case in print_.cases:
        for name, curve in case.survival.items():
            curves.setdefault(name, []).append(curve)
    means = {name: np.mean(curve, axis=0) for name, curve in curves.items()}
    cells = {name: largest_cell(curve, SURVIVAL) for name, curve in means.items()}
    hardest = min(cells, key=lambda name: cells[name])
    needed = STRIDE / cells[hardest]
    short = float(min(typical))
    floor = min(1.0, SMALLEST_SIDE / short)
    ceiling = max(1.0, min(LARGEST_ENLARGEMENT, SMALLEST_SIDE / short))
    scale = float(np.clip(needed, floor, ceiling))
    kept = surviving(means[hardest], np.clip(STRIDE / scale, CELLS[0], CELLS[-1]))
    why = f"class '{hardest}' keeps a Dice of {kept:.2f} on the mask grid at {scale:.2f} input pixels a pixel"
    if needed > ceiling:
        why += f" (it would need {needed:.1f} for {SURVIVAL}, more than images of this size are enlarged)"
    elif needed < floor:
        why += f" (it would bear {needed:.2f}; context keeps the shorter side at {short * floor:.0f})"
    return scale, why


def _picture_scaling(print_: Fingerprint, extents: np.ndarray, scale: float, wanted: np.ndarray) -> tuple[str, str]:
    """Pictures go whole when they fit and their objects survive being brought to one size, else at one scale."""
    if np.prod(wanted) > WHOLE_PIXELS:
        size = f"{wanted[0]:.0f} x {wanted[1]:.0f}"
        return "spacing", f"at the scale its objects need a typical picture has {size} pixels, too many for one pass"
    fitted = np.min(np.array(_cheapest(wanted)) / extents, axis=1)
    whole = _mean_survival(print_, STRIDE / fitted)
    tiles = _mean_survival(print_, np.full(len(extents), STRIDE / scale))
    if whole < tiles - FIT_LOSS:
        reason = f"pictures differ in size: brought to one size, masks could keep a Dice of {whole:.2f}"
        return "spacing", f"{reason}, at one scale {tiles:.2f}"
    return "fit", f"brought to one size whole, masks can keep a Dice of {whole:.2f}: no tiles needed"


def _mean_survival(print_: Fingerprint, cells: np.ndarray) -> float:
    """Mean over cases of the worst class's survival, each case at its own cell size."""
    kept = []
    for case, cell in zip(print_.cases, np.clip(cells, CELLS[0], CELLS[-1]), strict=True):
        kept += [min(surviving(curve, cell) for curve in case.survival.values())] if case.survival else []
    return float(np.mean(kept))


def work(height: int, width: int) -> float:
    """Encoder work of one pass relative to one pixel without padding: shares of the stages times their padding.

    Attention windows (7 at stride 8, 14 and 7 at stride 16) shrink to fit, so little is padded at any size.
    """
    total = 0.0
    for stride, window, share in ((8, 7, 0.25), (16, 14, 0.45), (16, 7, 0.30)):
        padded = 1.0
        for side in (height // stride, width // stride):
            count = -(-side // window)
            padded *= count * -(-side // count) / side
        total += share * padded
    return total * height * width


def _cheapest(wanted: np.ndarray) -> tuple[int, int]:
    """Among multiples of 32 within 10 % of each side, the pair of least work; else the next multiple up."""
    options = []
    for side in wanted:
        near = [m for m in range(32, int(side * 1.2) + 64, 32) if abs(m - side) <= TOLERANCE * side]
        options.append(near or [max(32, int(np.ceil(side / 32)) * 32)])
    return min(((h, w) for h in options[0] for w in options[1]), key=lambda size: work(*size))


def _patch_reasons(large: bool, tiled: bool, wanted: np.ndarray, reasons: dict[str, str]) -> None:
    size = f"{wanted[0]:.0f} x {wanted[1]:.0f}"
    if large:
        reasons["patch_size"] = f"tiles of an image of {size}; larger tiles cost memory and see no finer detail"
    else:
        reasons["patch_size"] = f"the cheapest multiples of 32 within 10 % of {size}, or the next above"
    if tiled:
        reasons["tile_overlap"] = "half a tile: every pixel is seen away from a tile's border by at least one tile"
    else:
        reasons["tile_overlap"] = "only for the rare image that is larger than the input"
