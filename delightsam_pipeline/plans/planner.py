"""From fingerprint to plan: the rules, each leaving its reason."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

import numpy as np

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.plans import modalities
from delightsam_pipeline.plans.fingerprint import ANISOTROPY, Fingerprint, median_grid, slicing_axis
from delightsam_pipeline.plans.plan import Augmentation, Normalisation, Plan, Training
from delightsam_pipeline.plans.survival import CELLS, largest_cell, surviving

log = logging.getLogger(__name__)

STRIDE = 4  # masks are decoded on a grid four times coarser than the input
SURVIVAL = 0.95  # Dice that every class must keep on that grid
SMALLEST_SIDE = 224  # larger images are not shrunk below it: context and texture have to survive as well
LARGEST_ENLARGEMENT = 4.0
WHOLE_PIXELS = 512 * 512  # more than this is cut into tiles
TILE_SIDE = 384
TOLERANCE = 0.1  # how far a side may move to a cheaper multiple of 32
FIT_LOSS = 0.02  # Dice that whole images may lose, on the mask grid, against tiles of one scale
CROPPED = 0.75  # z-score looks inside the nonzero mask when its box holds less than this share
BYTES_PER_PIXEL = 6400  # saved for the backward pass in fp32, see benchmarks/memory.py
PIXELS_PER_STEP = 400_000
_SIDES = re.compile(r"(^|[^a-z])(left|right)([^a-z]|$)", re.IGNORECASE)


def make_plan(print_: Fingerprint, labels: Labels, file_ending: str, memory_bytes: float = 8e9) -> Plan:
    """The plan of a dataset; `memory_bytes` bounds the batch."""
    reasons: dict[str, str] = {"modality": print_.modality_evidence}
    modality = modalities.of_name(print_.modality, len(print_.channel_names))
    grid = median_grid(print_)
    axis = slicing_axis(grid.spacing, grid.shape)
    reasons["slicing_axis"] = _slicing_reason(print_, axis)
    layout = _layout(print_, axis, reasons)
    volumes = np.median([case.shape[axis] for case in print_.cases]) > 1
    input_ = _input(print_, volumes, reasons)
    return Plan(
        dataset=print_.dataset,
        modality=modality.name,
        modality_id=modality.id,
        channel_names=print_.channel_names,
        labels=labels.to_dict(),
        file_ending=file_ending,
        physical=print_.physical,
        slicing_axis=axis,
        input=input_,
        scaling=layout.scaling,
        spacing=layout.spacing,
        patch_size=layout.patch,
        tile_overlap=0.5 if layout.tiled else 0.25,
        normalisation=_normalisation(print_, modality, reasons),
        resampling="linear",
        augmentation=_augmentation(modality, labels, axis, print_.physical, reasons),
        training=_training(layout.patch, memory_bytes, reasons),
        reasons=reasons
        | {"resampling": "cubic costs about twenty times as much on large volumes and has not measured better"},
    )


def _slicing_reason(print_: Fingerprint, axis: int) -> str:
    grid = median_grid(print_)
    names = ("axial", "coronal", "sagittal")
    if grid.shape[axis] == 1:
        return "the images are single slices"
    ratio = max(grid.spacing) / min(grid.spacing)
    if ratio >= ANISOTROPY:
        return f"{names[axis]} spacing is {ratio:.1f} times the finest, so slices are cut where resolution is best"
    return f"spacing is nearly the same along all axes (ratio {ratio:.1f}), so slices are axial"


def _input(print_: Fingerprint, volumes: bool, reasons: dict[str, str]) -> str:
    channels = len(print_.channel_names)
    if channels == 1:
        if volumes:
            reasons["input"] = "one channel: a slice with its two neighbours fills the three inputs and adds context"
            return "neighbours"
        reasons["input"] = "one channel and no neighbours: repeated for the three inputs"
        return "repeat"
    if channels == 3 and not volumes and not print_.physical:
        reasons["input"] = "three colour channels are the network's own input"
        return "rgb"
    reasons["input"] = f"{channels} channels that are no colours: a learned 1x1 projection to three inputs"
    return "projection"


@dataclass(frozen=True)
class _Layout:
    scaling: str
    spacing: tuple[float, float]
    patch: tuple[int, int]
    tiled: bool


def _layout(print_: Fingerprint, axis: int, reasons: dict[str, str]) -> _Layout:
    rows, columns = (a for a in range(3) if a != axis)
    sizes = np.array([(case.shape[rows], case.shape[columns]) for case in print_.cases], float)
    spacings = np.array([(case.spacing[rows], case.spacing[columns]) for case in print_.cases])
    native = np.median(spacings, axis=0)
    extents = sizes * spacings / native  # in pixels of the median spacing
    typical = np.median(extents, axis=0)
    scale, why = _scale(print_, typical)
    reasons["spacing"] = why
    large = np.percentile(extents, 95, axis=0) if print_.physical else typical
    wanted = large * scale
    if print_.physical:
        patch = _cheapest(wanted) if np.prod(wanted) <= WHOLE_PIXELS else (TILE_SIDE, TILE_SIDE)
        factor = float(min(1.0, *(np.array(patch) / wanted))) if np.prod(wanted) <= WHOLE_PIXELS else 1.0
        tiled = factor == 1.0 and np.prod(wanted) > WHOLE_PIXELS
        spacing = native / (scale * factor)
        reasons["scaling"] = "files have a spacing in mm, so every case is brought to the same one"
    else:
        patch, tiled, spacing = _picture_layout(print_, extents, scale, typical, reasons)
    _patch_reasons(patch, tiled, wanted, reasons)
    scaling = "spacing" if print_.physical or tiled else "fit"
    return _Layout(scaling, tuple(float(v) for v in spacing), patch, tiled)


def _picture_layout(print_, extents, scale, typical, reasons) -> tuple[tuple[int, int], bool, np.ndarray]:
    """Pictures: whole when they fit and their objects survive being brought to one size, else tiles of one scale."""
    wanted = typical * scale
    patch = _cheapest(wanted)
    fitted = np.min(np.array(patch) / extents, axis=1)
    whole, tiles = (_mean_survival(print_, STRIDE / s) for s in (fitted, np.full(len(extents), scale)))
    if np.prod(wanted) > WHOLE_PIXELS:
        reasons["scaling"] = (
            f"a typical picture is {wanted[0]:.0f} x {wanted[1]:.0f} pixels at the scale its objects need, "
            "too large for one pass: tiles of one scale"
        )
    elif whole < tiles - FIT_LOSS:
        reasons["scaling"] = (
            f"pictures differ in size: brought to one size, masks could keep a Dice of {whole:.2f}, "
            f"at one scale {tiles:.2f}: tiles of one scale"
        )
    else:
        reasons["scaling"] = f"brought to one size whole, masks can keep a Dice of {whole:.2f}: no tiles needed"
        factor = float(np.min(np.array(patch) / typical))
        return patch, False, np.array([1 / factor, 1 / factor])
    side = np.minimum(wanted, TILE_SIDE)
    return _cheapest(side), True, np.array([1 / scale, 1 / scale])


def _scale(print_: Fingerprint, typical: np.ndarray) -> tuple[float, str]:
    """Input pixels per pixel of the median spacing, and why."""
    curves = {}
    for case in print_.cases:
        for name, curve in case.survival.items():
            curves.setdefault(name, []).append(curve)
    means = {name: np.mean(curve, axis=0) for name, curve in curves.items()}
    cells = {name: largest_cell(curve, SURVIVAL) for name, curve in means.items()}
    hardest = min(cells, key=cells.get)
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


def _mean_survival(print_: Fingerprint, cells: np.ndarray) -> float:
    """Mean over cases of the worst class's survival, each case at its own cell size."""
    kept = []
    for case, cell in zip(print_.cases, np.clip(cells, CELLS[0], CELLS[-1]), strict=True):
        kept += [min(surviving(curve, cell) for curve in case.survival.values())] if case.survival else []
    return float(np.mean(kept))


def work(height: int, width: int) -> float:
    """Multiply-adds of one pass that depend on the windows, relative to a pixel without padding (MODEL, encoder)."""
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
    pairs = [(h, w) for h in options[0] for w in options[1]]
    return min(pairs, key=lambda p: work(*p))


def _patch_reasons(patch: tuple[int, int], tiled: bool, wanted: np.ndarray, reasons: dict[str, str]) -> None:
    size = f"{wanted[0]:.0f} x {wanted[1]:.0f}"
    if tiled:
        reasons["patch_size"] = f"tiles of a picture of {size}; larger tiles cost memory and see no finer detail"
        reasons["tile_overlap"] = "half a tile: every pixel is seen away from a tile's border by at least one tile"
    else:
        reasons["patch_size"] = f"the cheapest multiples of 32 within 10 % of {size}, or the next above"
        reasons["tile_overlap"] = "used for the rare image that is larger than the input"


def _normalisation(print_: Fingerprint, modality: modalities.Modality, reasons: dict[str, str]) -> Normalisation:
    scheme = modality.normalisation
    if scheme == "photograph" and print_.dtype not in ("uint8", "uint16"):
        scheme = "z-score"
    numbers = print_.intensities
    if scheme == "ct":
        ends = f"{numbers[0]['percentile_00_5']:.0f} to {numbers[0]['percentile_99_5']:.0f}"
        reasons["normalisation"] = (
            f"CT values mean the same everywhere: clipped to the foreground's {ends}, standardised"
        )
        return Normalisation(
            scheme="ct",
            lower=[n["percentile_00_5"] for n in numbers],
            upper=[n["percentile_99_5"] for n in numbers],
            mean=[n["mean"] for n in numbers],
            std=[max(n["std"], 1e-8) for n in numbers],
        )
    if scheme == "z-score":
        share = float(np.median([case.nonzero_share for case in print_.cases]))
        inside = share < CROPPED
        where = (
            f"inside the nonzero voxels (their box is {share:.0%} of the volume)" if inside else "over the whole case"
        )
        reasons["normalisation"] = f"{modality.name} values have no fixed scale: mean 0 and deviation 1, {where}"
        return Normalisation(scheme="z-score", inside_nonzero=inside)
    if scheme == "percentile":
        reasons["normalisation"] = f"{modality.name} gain varies: each image's 0.5 to 99.5 percentiles become 0 to 255"
        return Normalisation(scheme="percentile")
    reasons["normalisation"] = "colours as they are, with the mean and deviation the pretrained encoder knows"
    return Normalisation(scheme="photograph", full_scale=65535 if print_.dtype == "uint16" else 255)


def _augmentation(
    modality: modalities.Modality, labels: Labels, axis: int, physical: bool, reasons: dict[str, str]
) -> Augmentation:
    flips = modality.flips
    sided = [name for name in labels.classes if _SIDES.search(name.replace("_", " "))]
    why = f"what leaves a plausible {modality.name} image"
    if sided:
        # columns run left to right in axial and coronal slices and in pictures; sagittal slices hold one side each
        flips = (flips[0], False) if axis != 2 else flips
        why += f"; no left-right flips, since '{sided[0]}' names a side"
    reasons["augmentation"] = why
    return Augmentation(
        rotation_degrees=modality.rotation_degrees, scale=(0.7, 1.4), flips=flips, colour=modality.colour
    )


def _training(patch: tuple[int, int], memory_bytes: float, reasons: dict[str, str]) -> Training:
    pixels = patch[0] * patch[1]
    by_memory = int(memory_bytes * 0.8 // (BYTES_PER_PIXEL * pixels))
    by_pixels = round(PIXELS_PER_STEP / pixels)
    batch = int(np.clip(by_pixels, 2, max(2, min(by_memory, 16))))
    reasons["training"] = (
        f"about {PIXELS_PER_STEP // 1000}k pixels a step, at most 16 images and what {memory_bytes / 1e9:.0f} GB hold"
    )
    return Training(
        epochs=200,
        steps_per_epoch=100,
        batch_size=batch,
        learning_rate=1e-3,
        weight_decay=0.05,
        warmup=0.02,
        foreground_share=0.5,
        patch_loss_weight=0.5,
    )
