"""The table of modalities: what is fixed for each, and which one a dataset is, with the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from delightsam_pipeline.errors import UserError


@dataclass(frozen=True)
class Modality:
    """One row of the table.

    normalisation : "ct" (clip and standardise by the dataset's foreground), "z-score" (a case by itself),
        "percentile" (a case's percentiles to 0..255, then the encoder's mean and deviation) or
        "photograph" (0..255 as it is, then the encoder's mean and deviation).
    rotation_degrees : largest rotation of the augmentation.
    flips : whether turning the picture over leaves a plausible one, per in-plane axis (rows, columns).
    colour : whether brightness, contrast and gamma change each colour channel by itself.
    """

    id: int | None
    name: str
    aliases: tuple[str, ...]
    normalisation: str
    rotation_degrees: float
    flips: tuple[bool, bool]
    colour: bool = False


TABLE: tuple[Modality, ...] = (
    Modality(0, "dermoscopy", ("dermatoscopy", "skin", "dermatology"), "photograph", 180, (True, True), True),
    Modality(
        1, "X-ray", ("xray", "x ray", "cr", "dx", "radiograph", "mammography", "mg"), "percentile", 15, (False, True)
    ),
    Modality(2, "ultrasound", ("us", "sonography", "echo", "echocardiography"), "percentile", 30, (False, True)),
    Modality(3, "fundus", ("retina", "fundus photography", "cfp"), "photograph", 180, (True, True), True),
    Modality(4, "microscopy", ("histology", "pathology", "fluorescence", "sm"), "photograph", 180, (True, True), True),
    Modality(
        5, "endoscopy", ("colonoscopy", "es", "laparoscopy", "gastroscopy"), "photograph", 180, (True, True), True
    ),
    Modality(6, "CT", ("computed tomography", "cbct"), "ct", 30, (True, True)),
    Modality(
        7,
        "MRI",
        ("mr", "t1", "t2", "t1w", "t2w", "t1c", "t1ce", "t1gd", "flair", "adc", "dwi", "pd"),
        "z-score",
        30,
        (True, True),
    ),
    Modality(8, "PET", ("pt", "fdg", "suv"), "z-score", 30, (True, True)),
    Modality(9, "OCT", ("optical coherence tomography", "octa"), "percentile", 15, (False, True)),
)


@dataclass(frozen=True)
class Evidence:
    """A dataset's modality and why: name, confidence 0..1, one sentence."""

    modality: str
    confidence: float
    reason: str


def lookup(name: str) -> Modality | None:
    """The row with this name or alias (case and hyphens do not matter), None when there is none."""
    wanted = _plain(name)
    return next((m for m in TABLE if wanted in {_plain(m.name), *map(_plain, m.aliases)}), None)


def of_name(name: str, channels: int) -> Modality:
    """The row, or for a modality of the user's own one that treats colour as photographs, the rest by z-score."""
    known = lookup(name)
    if known is not None:
        return known
    normalisation = "photograph" if channels == 3 else "z-score"
    return Modality(None, name, (), normalisation, 30, (True, True), channels == 3)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def identify(
    given: str | None, channel_names: Sequence[str], physical: bool, lowest: float, highest: float, air_share: float
) -> Evidence:
    """Which modality a dataset is, by what is given, then its channel names, then CT's values.

    physical : whether the files carry a spacing in mm. lowest, highest : over all images. air_share : share of voxels
    below -900. Raises UserError when nothing tells.
    """
    if given is not None:
        known = lookup(given)
        name = known.name if known else given
        own = "" if known else " (a modality of your own: it is not in the table)"
        return Evidence(name, 1.0, f"given as '{given}'{own}")
    rows = {name: lookup(name) for name in channel_names}
    if rows and all(rows.values()) and len({row.name for row in rows.values()}) == 1:
        row = next(iter(rows.values()))
        return Evidence(row.name, 0.95, f"the channel names ({', '.join(rows)}) are {row.name}")
    if physical and len(channel_names) == 1 and -4096 <= lowest <= -900 and highest >= 200 and air_share > 0.02:
        sentence = f"values from {lowest:g} to {highest:g} with {air_share:.0%} of voxels below -900 (air in HU) are CT"
        return Evidence("CT", 0.9, sentence)
    raise UserError(
        "the modality of this dataset cannot be told with confidence",
        expected="'modality' in dataset.json, or --modality",
        found=f"channel names {', '.join(channel_names) or 'none'}",
        fix="give one of " + ", ".join(m.name for m in TABLE) + ", or a name of your own",
    )
