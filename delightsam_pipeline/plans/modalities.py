"""The table of modalities: what is fixed for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Modality:
    """One row of the table.

    normalisation : "ct" (clip and standardise by the dataset's foreground), "z-score" (a case by itself),
        "percentile" (a case's percentiles to 0..255, then the encoder's mean and deviation) or
        "photograph" (0..255 as it is, then the encoder's mean and deviation).
    rotation_degrees : largest rotation of the augmentation.
    flips : whether turning the picture over leaves a plausible one, per in-plane axis (rows, columns).
    colour : whether brightness, contrast and gamma change each colour channel by itself.
    own : how strongly the modality's own changes act, by entry of plans.plan.Augmentation.
    """

    id: int | None
    name: str
    aliases: tuple[str, ...]
    normalisation: str
    rotation_degrees: float
    flips: tuple[bool, bool]
    colour: bool = False
    own: Mapping[str, float] = field(default_factory=dict)


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
