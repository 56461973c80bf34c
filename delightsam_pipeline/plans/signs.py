"""The signs by which each modality is told from pixels: per look of a modality, what must be there and how far it is.

The limits come from real images where there were any, and from drawn ones for OCT and PET; docs/concepts/modalities.md
says what they were tried on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from delightsam_pipeline.plans.facts import PictureFacts, PixelFacts, VolumeFacts

Signs = Iterator[tuple[str, float]]


@dataclass(frozen=True)
class Look:
    """How far one image looks like a modality: score is the degree of its weakest sign, all 0 to 1.

    what : the look in words. present, missing : signs in words, by whether their degree reaches a half.
    """

    modality: str
    what: str
    score: float
    present: tuple[str, ...]
    missing: tuple[str, ...]


def looks(facts: PixelFacts) -> list[Look]:
    """The image seen as every modality in turn, some of which have several looks; best first."""
    found = []
    if facts.picture is not None and facts.channels in (1, 3):
        found += [_look(*names, signs(facts.picture)) for names, signs in _PICTURES.items()]
    if facts.physical and facts.channels == 1:
        found += [_look(*names, signs(facts.volume)) for names, signs in _VALUES.items()]
    if facts.physical and facts.channels == 1 and facts.slices > 1:
        ct = max(look.score for look in found)
        found += [_look(*names, signs(facts.volume, ct)) for names, signs in _VOLUMES.items()]
    return sorted(found, key=lambda look: -look.score)


def _look(modality: str, what: str, signs: Signs) -> Look:
    degrees = list(signs)
    present = tuple(text for text, degree in degrees if degree >= 0.5)
    missing = tuple(text for text, degree in degrees if degree < 0.5)
    return Look(modality, what, min(degree for _, degree in degrees), present, missing)


def _from(value: float, none: float, full: float) -> float:
    """0 at `none`, 1 at `full`, straight between; either may be the larger."""
    return min(1.0, max(0.0, (value - none) / (full - none)))


def _over(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 1.0


def _between(value: float, none: float, full: float, still: float, again: float) -> float:
    """1 from `full` to `still`, 0 up to `none` and from `again`."""
    return min(_from(value, none, full), _from(value, again, still))


def _fundus(p: PictureFacts) -> Signs:
    yield "red over green over blue", min(_from(p.warm, 0.9, 0.97), _from(p.coloured, 0.15, 0.35))
    yield "much red and little blue", min(_from(p.red, 0.42, 0.5), _from(p.blue, 0.27, 0.23))
    yield "a field of view on black", min(_from(p.corners, 0.7, 0.95), _from(p.field, 0.4, 0.55))
    yield "a round edge of the field", _from(p.disc, 0.55, 0.85)
    yield "no highlights", _from(p.glints, 0.006, 0.003)
    yield "thin dark vessels", _between(p.veins, 0.005, 0.02, 0.3, 0.4)
    yield "an even ground", _from(p.uneven, 0.5, 0.42)


def _endoscopy(p: PictureFacts) -> Signs:
    yield "red over green over blue", min(_from(p.warm, 0.9, 0.97), _from(p.coloured, 0.15, 0.35))
    yield "the colour of mucosa", min(_between(p.red, 0.42, 0.45, 0.6, 0.66), _between(p.blue, 0.08, 0.12, 0.26, 0.28))
    yield "a black frame", min(_from(p.corners, 0.6, 0.9), _between(p.field, 0.5, 0.6, 0.95, 0.98))
    yield "cut corners or highlights", max(_from(p.disc, 0.8, 0.6), _from(p.glints, 0.003, 0.006))
    yield "one tint", _from(p.tint_spread, 0.18, 0.14)
    yield "smooth surfaces", min(_from(p.fine, 0.2, 0.14), _from(p.veins, 0.4, 0.32))
    yield "light that falls off", _from(p.uneven, 0.1, 0.16)


def _dermoscopy(p: PictureFacts) -> Signs:
    yield (
        "the colours of skin",
        min(
            _from(p.warm, 0.7, 0.85), _between(p.red, 0.34, 0.37, 0.48, 0.52), _between(p.blue, 0.19, 0.22, 0.33, 0.36)
        ),
    )
    yield "colour all over", _from(p.coloured, 0.4, 0.6)
    yield "a full field of view", _from(p.field, 0.85, 0.93)
    yield "a bright even rim", min(_from(p.rim, 0.38, 0.48), _from(p.rim_spread, 0.24, 0.2))
    yield "one dark patch in the middle", min(_from(p.patch, 0.5, 0.75), _from(p.centre, p.rim + 0.05, p.rim - 0.01))
    yield "one tint", _from(p.tint_spread, 0.2, 0.15)
    yield "little structure else", _from(p.veins, 0.36, 0.27)


def _stained(p: PictureFacts) -> Signs:
    yield "a bright ground", min(_from(p.ground, 0.35, 0.5), _from(p.rim, 0.4, 0.5))
    yield "colour", _from(p.coloured, 0.08, 0.14)
    yield "purple", _from(p.purple, 0.12, 0.25)
    yield "hardly any warm or green tints", min(_from(p.warm, 0.6, 0.45), _from(p.cold, 0.3, 0.2))
    yield "a full field of view", _from(p.field, 0.85, 0.95)
    yield "dark things of a clear outline", min(_from(p.follows, 0.35, 0.15), _from(p.fine, 0.25, 0.18))


def _fluorescence(p: PictureFacts) -> Signs:
    yield "grey or one tint", max(_from(p.grey, 0.9, 0.97), _from(p.tint_spread, 0.06, 0.03) * (p.red < 0.3))
    yield "a dark ground", _from(p.ground, 0.27, 0.2)
    yield "a calm ground", _from(p.ground_noise, 0.11, 0.08)
    yield "many bright things", min(_from(p.blobs, 2, 6), _between(p.blob_share, 0.003, 0.01, 0.38, 0.45))
    yield "soft edges", _from(p.fine, 0.2, 0.16)
    yield "no direction", min(_from(abs(p.lateral), 0.3, 0.2), _from(p.layered, 0.55, 0.45), _from(p.mirror, 0.7, 0.55))
    yield "grain that grows with brightness", _from(p.follows, 0.2, 0.45)


def _ultrasound(p: PictureFacts) -> Signs:
    yield "grey with coloured flow at most", min(_from(p.grey, 0.65, 0.8), _from(p.white, 0.12, 0.06))
    yield "dark tissue", _from(p.ground, 0.45, 0.36)
    yield "speckle", _between(p.fine, 0.14, 0.19, 0.5, 0.6)
    yield "speckle that grows with brightness", _from(p.follows, 0.3, 0.45)
    yield "speckle wider than deep (or a sector)", max(_from(p.lateral, 0.25, 0.4), _sector(p))
    yield (
        "brightness near the probe (or a sector)",
        max(min(_from(p.start, 0.33, 0.43), _from(p.band, 0.6, 0.4)), _sector(p)),
    )


def _sector(p: PictureFacts) -> float:
    return min(_from(p.sector, 0.85, 0.95), _from(p.corners, 0.7, 0.95), _from(p.lateral, -0.1, 0.05))


def _oct(p: PictureFacts) -> Signs:
    yield "grey", _from(p.grey, 0.95, 0.99)
    yield "one bright band from side to side between dark", _from(p.band, 0.7, 0.95)
    yield "layers", _from(p.layered, 0.5, 0.7)
    yield "speckle", _between(p.fine, 0.1, 0.15, 0.5, 0.6)
    yield "speckle that grows with brightness", _from(p.follows, 0.4, 0.55)
    yield "speckle wider than deep", _from(p.lateral, 0.1, 0.2)


def _chest(p: PictureFacts) -> Signs:
    yield "grey", _from(p.grey, 0.97, 0.99)
    yield "two dark lungs between brighter walls", min(_from(p.lungs, 0.15, 0.35), _from(p.lung_level, 0.1, 0.18))
    yield "left like right", _from(p.mirror, 0.42, 0.6)
    yield "a bright column from top to bottom", _from(p.column, 0.28, 0.4)
    yield "smooth shades", min(_between(p.fine, 0.013, 0.022, 0.11, 0.14), _from(p.veins, 0.45, 0.37))
    clear = min(_from(p.lungs, 0.75, 0.9), _from(p.mirror, 0.7, 0.8))
    yield "grain that does not grow with brightness (or clear lungs)", max(_from(p.follows, 0.4, 0.2), clear)
    yield "hardly any black or white", min(_from(p.ground, 0.15, 0.23), _from(p.white, 0.4, 0.28))
    yield "no direction", _from(abs(p.lateral), 0.4, 0.3)


def _hounsfield(v: VolumeFacts) -> Signs:
    yield "air near -1000", min(_from(v.air, 0.003, 0.02), _from(v.lowest, -5000, -4100))
    yield "soft tissue around 0", min(_from(v.soft, 0.25, 0.4), _from(abs(v.soft_peak), 200, 150))
    yield "values up to bone", _between(v.highest, 100, 200, 35000, 66000)


def _window(v: VolumeFacts) -> Signs:
    yield (
        "cut off below and above",
        min(_from(v.floor, 0.003, 0.01), _from(v.ceiling, 0, 0.0003), _from(v.whole, 0.8, 0.95)),
    )
    yield (
        "limits of a CT window",
        min(_between(v.lowest, -1100, -1050, -100, -60), _between(v.highest, 120, 150, 2000, 4000)),
    )
    yield "soft tissue around 0", min(_from(v.soft, 0.4, 0.6), _from(abs(v.soft_peak), 200, 150))


def _offset(v: VolumeFacts) -> Signs:
    yield "whole numbers from 0", min(_from(v.whole, 0.9, 0.99), _between(v.lowest, -100, -60, 124, 150))
    yield "air near 0", _from(v.offset_air, 0.01, 0.05)
    yield "soft tissue around 1024", min(_from(v.offset_soft, 0.35, 0.5), _between(v.offset_peak, 850, 880, 1150, 1200))
    yield "little between them", _from(v.between, 0.45, 0.3)
    yield "values up to bone", _between(v.highest, 1300, 1400, 5500, 66000)


def _mri(v: VolumeFacts, ct: float) -> Signs:
    yield "values from zero up", min(_from(v.negative, 0.01, 0.002), _from(_over(v.p01, v.p99), 0.7, 0.5))
    yield "a scale of its own", min(_from(v.highest, 5, 20), _from(v.ceiling, 0.01, 0.002))
    yield "tissues of several levels", min(_from(v.lit_median, 0.08, 0.15), _from(v.between, 0.12, 0.2))
    yield "detail", _from(v.detail, 0.03, 0.08)
    yield "a body in view", min(_from(v.lit, 0.02, 0.08), _between(v.spacing, 0.1, 0.2, 10, 15))
    yield "no marks of CT", _from(ct, 0.6, 0.2)


def _pet(v: VolumeFacts, ct: float) -> Signs:
    yield "values from zero up", _from(v.negative, 0.05, 0.01)
    yield "a scale of its own", _from(v.ceiling, 0.003, 0.001)
    yield "few hot spots in much that is cold", min(_from(v.hot, 0.05, 0.025), _from(_over(v.p50, v.p999), 0.06, 0.03))
    yield "blurred spots", _between(v.detail, 0.01, 0.03, 0.2, 0.3)
    yield "coarse voxels", _from(v.spacing, 0.9, 1.4)
    yield "no marks of CT", _from(ct, 0.6, 0.2)


_PICTURES: dict[tuple[str, str], Callable[[PictureFacts], Signs]] = {
    ("fundus", "a fundus photograph"): _fundus,
    ("endoscopy", "endoscopy"): _endoscopy,
    ("dermoscopy", "dermoscopy"): _dermoscopy,
    ("microscopy", "stained microscopy"): _stained,
    ("microscopy", "fluorescence microscopy"): _fluorescence,
    ("ultrasound", "ultrasound"): _ultrasound,
    ("OCT", "OCT"): _oct,
    ("X-ray", "a chest X-ray"): _chest,
}
_VALUES: dict[tuple[str, str], Callable[[VolumeFacts], Signs]] = {
    ("CT", "CT in Hounsfield units"): _hounsfield,
    ("CT", "CT cut to a window"): _window,
    ("CT", "CT with 1024 added"): _offset,
}
_VOLUMES: dict[tuple[str, str], Callable[[VolumeFacts, float], Signs]] = {
    ("MRI", "MRI"): _mri,
    ("PET", "PET"): _pet,
}
