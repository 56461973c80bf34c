"""The rules that look at one decision alone: slicing, input, normalisation, augmentation; each leaves its reason."""

from __future__ import annotations

import re

import numpy as np

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.draft import Draft
from delightsam_pipeline.plans.fingerprint import ANISOTROPY, Fingerprint, median_grid
from delightsam_pipeline.plans.fingerprint import slicing_axis as thick_axis
from delightsam_pipeline.plans.modalities import Modality
from delightsam_pipeline.plans.plan import OF_COLOUR, Augmentation, Normalisation

CROPPED = 0.75  # z-score looks inside the nonzero mask when its box holds less than this share
UPRIGHT_DEGREES = 30  # turned further, what is called left might lie on the right
# which entries of a normalisation its scheme uses
_USED = {
    "ct": ("lower", "upper", "mean", "std"),
    "z-score": ("inside_nonzero",),
    "percentile": (),
    "photograph": ("full_scale", "mean", "std"),
}


def _as_words(name: str) -> str:
    """'left_lung' and 'LeftLung' as 'left lung' and 'Left Lung'."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " "))


def _words(*words: str) -> re.Pattern:
    return re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE)


# "leftlung" too, not "leftover"
_LEFT_RIGHT = re.compile(r"\b(left(?!over)|right)|\b(l|r|lh|rh)\b", re.IGNORECASE)
# words in a label's name that say where along an axis it lies: flipping that axis would make the name wrong
_DIRECTIONS = {
    0: _words("superior", "inferior", "upper", "lower", "cranial", "caudal"),
    1: _words("anterior", "posterior", "ventral", "dorsal", "front", "back"),
    2: _LEFT_RIGHT,
    "rows": _words("superior", "inferior", "upper", "lower", "top", "bottom"),
    # in pictures alone: a temporal lobe or a nasal cavity in a volume has two sides, or lies in the middle
    "columns": re.compile(rf"{_LEFT_RIGHT.pattern}|\b(nasal|temporal)\b", re.IGNORECASE),
}


def slicing_axis(print_: Fingerprint) -> tuple[int, str]:
    """The axis along which volumes are cut, and why."""
    grid = median_grid(print_)
    axis = thick_axis(grid.spacing, grid.shape)
    name = ("axial", "coronal", "sagittal")[axis]
    if grid.shape[axis] == 1:
        return axis, "the images are single slices"
    ratio = max(grid.spacing) / min(grid.spacing)
    if ratio >= ANISOTROPY:
        return axis, f"{name} spacing is {ratio:.1f} times the finest, so slices are cut where resolution is best"
    return axis, f"spacing is nearly the same along all axes (ratio {ratio:.1f}), so slices are axial"


def network_input(print_: Fingerprint, axis: int) -> tuple[str, str]:
    """What fills the network's three inputs when volumes are cut along `axis`, and why."""
    channels = len(print_.channel_names)
    volumes = np.median([case.shape[axis] for case in print_.cases]) > 1
    if channels == 1:
        if volumes:
            return "neighbours", "one channel: a slice with its two neighbours fills the three inputs and adds context"
        return "repeat", "one channel and no neighbours: repeated for the three inputs"
    if channels == 3 and not volumes and not print_.physical:
        return "rgb", "three colour channels are the network's own input"
    how = "they fill the three inputs as they are" if channels == 3 else "a learned 1x1 projection to three inputs"
    return "projection", f"{channels} channels that are no colours: {how}"


def normalisation(print_: Fingerprint, modality: Modality, draft: Draft) -> Normalisation:
    """The modality's scheme with the dataset's numbers, or what is fixed; taken in the draft.

    Raises UserError when the user sets an entry that the scheme does not use.
    """
    scheme = modality.normalisation
    if scheme == "photograph" and print_.dtype not in ("uint8", "uint16"):
        scheme = "z-score"
    value, reason = _by_scheme(scheme, print_, modality)
    given = draft.user.get("normalisation.scheme")
    if given is not None:
        rules = "as the rules would" if given == scheme else f"the rules would have taken {scheme}: {reason}"
        value, reason = _by_scheme(given, print_, modality)
        reason = f"set by the user ({rules}); {reason}"
    elif draft.fixed("normalisation"):
        value = draft.take("normalisation", value, reason)
        reason = draft.reasons["normalisation"]
    entries = [name for name in draft.parts("normalisation") if name != "scheme"]
    useless = next((name for name in entries if name not in _USED[value.scheme]), None)
    if useless is not None:
        problem = f"normalisation.{useless} means nothing with the scheme '{value.scheme}'"
        raise UserError(problem, fix="leave it out, or set another normalisation")
    return draft.take_parts("normalisation", value, reason)


def _by_scheme(scheme: str, print_: Fingerprint, modality: Modality) -> tuple[Normalisation, str]:
    """A scheme with the numbers that the dataset gives it, in words too."""
    numbers = print_.intensities
    if scheme == "ct":
        ends = f"{numbers[0]['percentile_00_5']:.0f} to {numbers[0]['percentile_99_5']:.0f}"
        value = Normalisation(
            scheme="ct",
            lower=[n["percentile_00_5"] for n in numbers],
            upper=[n["percentile_99_5"] for n in numbers],
            mean=[n["mean"] for n in numbers],
            std=[max(n["std"], 1e-8) for n in numbers],
        )
        return value, f"CT values mean the same everywhere: clipped to the foreground's {ends}, standardised"
    if scheme == "z-score":
        share = float(np.median([case.nonzero_share for case in print_.cases]))
        inside = share < CROPPED
        where = (
            f"inside the nonzero voxels (their box is {share:.0%} of the volume)" if inside else "over the whole case"
        )
        reason = f"{modality.name} values have no fixed scale: mean 0 and deviation 1, {where}"
        return Normalisation(scheme="z-score", inside_nonzero=inside), reason
    if scheme == "percentile":
        reason = f"{modality.name} gain varies: each image's 0.5 to 99.5 percentiles become 0 to 255"
        return Normalisation(scheme="percentile"), reason
    reason = "colours as they are, with the mean and deviation the pretrained encoder knows"
    return Normalisation(scheme="photograph", full_scale=65535 if print_.dtype == "uint16" else 255), reason


def augmentation(
    modality: Modality, labels: Labels, slicing: int, physical: bool, input_: str, draft: Draft
) -> Augmentation:
    """What leaves a plausible image of the modality, and sides where the labels' names say; taken in the draft.

    The modality's own changes of colours are left out where the network's input (`input_`) has none.
    """
    directions = [axis for axis in range(3) if axis != slicing] if physical else ["rows", "columns"]
    flips, degrees = list(modality.flips), modality.rotation_degrees
    why = f"what leaves a plausible {modality.name} image"
    for place, direction in enumerate(directions):
        named = [name for name in labels.classes if _DIRECTIONS[direction].search(_as_words(name))]
        if named and degrees > UPRIGHT_DEGREES:
            degrees = UPRIGHT_DEGREES
            why += f"; turned by {degrees} degrees at most, since '{named[0]}' names a side"
        if named and flips[place]:
            flips[place] = False
            why += f"; {('rows', 'columns')[place]} are not flipped, since '{named[0]}' names a side"
    own = {name: strength for name, strength in modality.own.items() if input_ == "rgb" or name not in OF_COLOUR}
    if own:
        why += f"; {', '.join(f'{name} {strength:g}' for name, strength in own.items())} as its images vary"
    value = Augmentation(
        rotation_degrees=degrees, scale=(0.7, 1.4), flips=(flips[0], flips[1]), colour=modality.colour, **own
    )
    return draft.take_parts("augmentation", value, why)
