"""From fingerprint to plan: the rules, each leaving its reason."""

from __future__ import annotations

import re

import numpy as np

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.plans import modalities
from delightsam_pipeline.plans.fingerprint import ANISOTROPY, Fingerprint, median_grid, slicing_axis
from delightsam_pipeline.plans.layout import choose_layout
from delightsam_pipeline.plans.plan import Augmentation, Normalisation, Plan, Training

CROPPED = 0.75  # z-score looks inside the nonzero mask when its box holds less than this share
BYTES_PER_PIXEL = 4000  # 2,800 are saved for the backward pass in fp32 (benchmarks/memory.py), the rest is its own
PIXELS_PER_STEP = 400_000


def _as_words(name: str) -> str:
    """'left_lung' and 'LeftLung' as 'left lung' and 'Left Lung'."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " "))


def _words(*words: str) -> re.Pattern:
    return re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE)


# words in a label's name that say where along an axis it lies: flipping that axis would make the name wrong
_DIRECTIONS = {
    0: _words("superior", "inferior", "upper", "lower", "cranial", "caudal"),
    1: _words("anterior", "posterior", "ventral", "dorsal", "front", "back"),
    2: _words("left", "right", "l", "r", "lh", "rh"),
    "rows": _words("superior", "inferior", "upper", "lower", "top", "bottom"),
}


def make_plan(print_: Fingerprint, labels: Labels, file_ending: str, memory_bytes: float = 8e9) -> Plan:
    """The plan of a dataset; `memory_bytes` bounds the batch."""
    reasons: dict[str, str] = {"modality": print_.modality_evidence}
    modality = modalities.of_name(print_.modality, len(print_.channel_names))
    grid = median_grid(print_)
    axis = slicing_axis(grid.spacing, grid.shape)
    reasons["slicing_axis"] = _slicing_reason(print_, axis)
    layout = choose_layout(print_, axis, reasons)
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
        tile_overlap=layout.overlap,
        normalisation=_normalisation(print_, modality, reasons),
        resampling="linear",
        augmentation=_augmentation(modality, labels, axis, print_.physical, reasons),
        training=_training(layout.patch, memory_bytes, reasons),
        reasons=reasons
        | {"resampling": "the mean of what a pixel covers when shrinking: quick, and edges do not ring"},
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
    how = "they fill the three inputs as they are" if channels == 3 else "a learned 1x1 projection to three inputs"
    reasons["input"] = f"{channels} channels that are no colours: {how}"
    return "projection"


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
    modality: modalities.Modality, labels: Labels, slicing: int, physical: bool, reasons: dict[str, str]
) -> Augmentation:
    directions = [axis for axis in range(3) if axis != slicing] if physical else ["rows", 2]
    flips, why = list(modality.flips), f"what leaves a plausible {modality.name} image"
    for place, direction in enumerate(directions):
        named = [name for name in labels.classes if _DIRECTIONS[direction].search(_as_words(name))]
        if named and flips[place]:
            flips[place] = False
            why += f"; {('rows', 'columns')[place]} are not flipped, since '{named[0]}' names a side"
    reasons["augmentation"] = why
    return Augmentation(
        rotation_degrees=modality.rotation_degrees, scale=(0.7, 1.4), flips=(flips[0], flips[1]), colour=modality.colour
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
