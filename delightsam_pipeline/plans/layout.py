"""How large the network sees things: the scale, the input size, and whether images go whole or in tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from delightsam_pipeline.plans.fingerprint import Fingerprint
from delightsam_pipeline.plans.memory import padded
from delightsam_pipeline.plans.survival import CELLS, largest_cell, surviving

STRIDE = 4  # masks are decoded on a grid four times coarser than the input
SURVIVAL = 0.95  # Dice that every class must keep on that grid
SMALLEST_SIDE = 224  # larger images are not shrunk below it: context and texture have to survive as well
LARGEST_ENLARGEMENT = 4.0
WHOLE_PIXELS = 512 * 512  # more than this is cut into tiles
TILE_SIDE = 384
BELOW, ABOVE = 0.05, 0.1  # how far a side may move to a cheaper multiple of 32; below it detail is lost
FIT_LOSS = 0.02  # Dice that whole images may lose, on the mask grid, against tiles of one scale


@dataclass(frozen=True)
class Bound:
    """The largest side of the network's input, a multiple of 32, and what asks for it."""

    side: int
    because: str


@dataclass(frozen=True)
class Layout:
    """scaling, spacing, patch_size and tile_overlap of a plan, with a reason for each."""

    scaling: str
    spacing: tuple[float, float]
    patch_size: tuple[int, int]
    tile_overlap: float
    reasons: dict[str, str]


@dataclass(frozen=True)
class _Slices:
    """The dataset's slices along one axis: median spacing [2], and sizes [cases, 2] in pixels of that spacing."""

    print_: Fingerprint
    native: np.ndarray
    sizes: np.ndarray

    @staticmethod
    def along(axis: int, print_: Fingerprint) -> _Slices:
        rows, columns = (a for a in range(3) if a != axis)
        pixels = np.array([(case.shape[rows], case.shape[columns]) for case in print_.cases], float)
        spacings = np.array([(case.spacing[rows], case.spacing[columns]) for case in print_.cases])
        native = np.median(spacings, axis=0)
        return _Slices(print_, native, pixels * spacings / native)

    @property
    def typical(self) -> np.ndarray:
        return np.median(self.sizes, axis=0)

    def survival(self, scales: np.ndarray | float) -> float:
        """Mean over cases of the worst class's survival, each case at its own input pixels a pixel."""
        kept = []
        cells = np.broadcast_to(STRIDE / np.asarray(scales), len(self.sizes)).clip(CELLS[0], CELLS[-1])
        for case, cell in zip(self.print_.cases, cells, strict=True):
            kept += [min(surviving(curve, cell) for curve in case.survival.values())] if case.survival else []
        return float(np.mean(kept))


def choose_layout(
    print_: Fingerprint, axis: int, fixed: Mapping[str, Any] | None = None, bound: Bound | None = None
) -> Layout:
    """The layout for slices along `axis`.

    fixed : those of scaling, spacing and patch_size that the rules must take as they are; the others follow.
    """
    fixed = fixed or {}
    slices, reasons = _Slices.along(axis, print_), {}
    scale, reasons["spacing"] = _scale(print_, slices.typical)
    scales = slices.native / fixed["spacing"] if "spacing" in fixed else np.full(2, scale)
    fit = fixed.get("scaling") == "fit"
    # volumes share a spacing, so nearly all of them have to fit; pictures are made to fit
    most = np.percentile(slices.sizes, 95, axis=0) if print_.physical and not fit else slices.typical
    if bound is not None and not {"spacing", "patch_size"} & set(fixed):
        shrinking, note = _shrinking(slices, scale, most, bound)
        scales, reasons["spacing"] = scales * shrinking, reasons["spacing"] + note
    wanted = scales * most
    large = _is_large(wanted, fixed.get("patch_size"), bound)
    if fit and large and "patch_size" not in fixed:
        wanted, reasons["spacing"] = _whole(slices, wanted, bound)
        large = False
    patch = fixed.get("patch_size") or _patch(wanted, large, bound, 0.0 if "spacing" in fixed else BELOW)
    scaling, reasons["scaling"] = _scaling(slices, patch, wanted, large, float(min(scales)), fixed)
    tiled = scaling == "spacing" and (large or not print_.physical)
    spacing = slices.native / scales
    if scaling == "fit":
        spacing = slices.native / np.min(np.array(patch) / slices.typical)
    elif not large and "spacing" not in fixed:
        spacing = spacing / min(1.0, np.min(np.array(patch) / wanted))
    reasons["patch_size"], reasons["tile_overlap"] = _patch_reasons(large and scaling == "spacing", tiled, wanted)
    return Layout(scaling, (float(spacing[0]), float(spacing[1])), patch, 0.5 if tiled else 0.25, reasons)


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


def _shrinking(slices: _Slices, scale: float, most: np.ndarray, bound: Bound) -> tuple[float, str]:
    """By how much whole images shrink for the bound's sake, 1 when their objects would not bear it; and a clause."""
    factor = min(1.0, bound.side / float(max(scale * most)))
    if factor == 1:
        return 1.0, ""
    before, after = slices.survival(scale), slices.survival(scale * factor)
    if after < before - FIT_LOSS:
        note = f"not shrunk to sides of {bound.side} ({bound.because}), which would leave a Dice of {after:.2f}"
        return 1.0, f"; {note} of {before:.2f}"
    return factor, f"; shrunk to sides of {bound.side} ({bound.because}), where {after:.2f} of {before:.2f} is left"


def _is_large(wanted: np.ndarray, patch: tuple[int, int] | None, bound: Bound | None) -> bool:
    """Whether images at the wanted size are too large for one pass."""
    if patch is not None:
        return bool((wanted * (1 - BELOW) > patch).any())
    # half a pixel, since shrinking to the bound leaves rounding
    return bool(np.prod(wanted) > WHOLE_PIXELS) or (bound is not None and max(wanted) > bound.side + 0.5)


def _whole(slices: _Slices, wanted: np.ndarray, bound: Bound | None) -> tuple[np.ndarray, str]:
    """The largest size at which images that must not be cut go through in one pass, and what is left of them there."""
    factor = min(1.0, (WHOLE_PIXELS / np.prod(wanted)) ** 0.5)
    if bound is not None:
        factor = min(factor, bound.side / max(wanted))
    size = wanted * factor
    kept = slices.survival(np.min(size / slices.sizes, axis=1))
    return size, f"whole images of {_by(size)} are the largest for one pass; masks can keep a Dice of {kept:.2f} there"


def _scaling(
    slices: _Slices, patch: tuple[int, int], wanted: np.ndarray, large: bool, scale: float, fixed: Mapping[str, Any]
) -> tuple[str, str]:
    """Pictures go whole when they fit and their objects survive being brought to one size, else at one scale."""
    if "scaling" in fixed:
        return fixed["scaling"], ""
    if slices.print_.physical:
        return "spacing", "files have a spacing in mm: every case is brought to the same one"
    if "spacing" in fixed:
        return "spacing", "the spacing is fixed: every picture is brought to it"
    if large and "patch_size" not in fixed:
        reason = f"at the scale its objects need a typical picture has {_by(wanted)} pixels, too many for one pass"
        return "spacing", reason
    whole, tiles = slices.survival(np.min(np.array(patch) / slices.sizes, axis=1)), slices.survival(scale)
    if whole < tiles - FIT_LOSS:
        reason = f"brought to one size whole, masks could keep a Dice of {whole:.2f}, at one scale {tiles:.2f}"
        return "spacing", reason
    return "fit", f"brought to one size whole, masks can keep a Dice of {whole:.2f}: no tiles needed"


def work(height: int, width: int) -> float:
    """Encoder work of one pass relative to one pixel without padding: shares of the stages times their padding.

    Attention windows (7 at stride 8, 14 and 7 at stride 16) shrink to fit, so little is padded at any size.
    """
    total = 0.0
    for stride, window, share in ((8, 7, 0.25), (16, 14, 0.45), (16, 7, 0.30)):
        sides = height // stride, width // stride
        total += share * padded(sides[0], window) * padded(sides[1], window) / (sides[0] * sides[1])
    return total * height * width


def _patch(wanted: np.ndarray, large: bool, bound: Bound | None, below: float) -> tuple[int, int]:
    """The pair of sides of least work among the multiples of 32 near the wanted ones; else the next multiple up."""
    most = 8192 if bound is None else bound.side
    options = []
    for side in np.minimum(wanted, min(TILE_SIDE, most)) if large else wanted:
        multiples = range(32, min(int(side * (1 + ABOVE)) + 1, most + 1), 32)
        near = [m for m in multiples if m >= side * (1 - below) - 0.5]  # half a pixel is rounded away
        options.append(near or [min(int(np.ceil(side / 32)) * 32, most)])
    return min(((h, w) for h in options[0] for w in options[1]), key=lambda size: work(*size))


def _patch_reasons(large: bool, tiled: bool, wanted: np.ndarray) -> tuple[str, str]:
    """Of patch_size and of tile_overlap."""
    near = f"the cheapest multiples of 32 from {BELOW:.0%} below to {ABOVE:.0%} above {_by(wanted)}, or the next above"
    tiles = f"tiles of an image of {_by(wanted)}; larger tiles cost memory and see no finer detail"
    half = "half a tile: every pixel is seen away from a tile's border by at least one tile"
    return tiles if large else near, half if tiled else "only for the rare image that is larger than the input"


def _by(size: np.ndarray) -> str:
    return f"{size[0]:.0f} x {size[1]:.0f}"
