"""Which modality a dataset is, with the evidence for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans import modalities
from delightsam_pipeline.plans.facts import PixelFacts
from delightsam_pipeline.plans.pixels import measure
from delightsam_pipeline.plans.signs import Look, looks

__all__ = ["DICOM_TAGS", "Evidence", "PixelFacts", "dicom_modality_of", "identify", "measure"]

_SURE = 0.5  # score from which an image votes
_AHEAD = 0.3  # by which a vote leaves the next modality behind
_ENOUGH = 0.5  # confidence from which a modality is named
_FEW = 5  # images below which agreement says less
_FEWEST = 3  # votes without which pixels name nothing but CT by its air
_AGAINST = 0.1  # share of votes for others from which nothing is named
_MOST_TOLD = 3  # signs that are told to be missing
DICOM_TAGS = {
    **dict.fromkeys(("CR", "DX", "MG", "RG", "RF", "XA", "IO", "PX"), "X-ray"),
    **dict.fromkeys(("US", "IVUS"), "ultrasound"),
    **dict.fromkeys(("SM", "GM"), "microscopy"),
    **dict.fromkeys(("OPT", "OCT"), "OCT"),
    **{"CT": "CT", "MR": "MRI", "PT": "PET", "ES": "endoscopy", "DMS": "dermoscopy"},
}


@dataclass(frozen=True)
class Evidence:
    """A dataset's modality and why: name, confidence 0..1, one sentence."""

    modality: str
    confidence: float
    reason: str


def dicom_modality_of(facts: Sequence[PixelFacts]) -> str | None:
    """The DICOM Modality that all cases share, None where they have none or differ."""
    tags = {fact.dicom_modality for fact in facts}
    return tags.pop() or None if len(tags) == 1 else None


def identify(
    given: str | None, channel_names: Sequence[str], dicom_modality: str | None, facts: Sequence[PixelFacts]
) -> Evidence:
    """Which modality a dataset is: by what is given, its channel names, its DICOM tag, then its pixels.

    dicom_modality : see `dicom_modality_of`. facts : of all cases.
    Raises UserError when nothing tells, which names the two likeliest with what speaks for and against them.
    """
    if given is not None:
        known = modalities.lookup(given)
        name = known.name if known else given
        own = "" if known else " (a modality of your own: it is not in the table)"
        return Evidence(name, 1.0, f"given as '{given}'{own}")
    rows = {name: modalities.lookup(name) for name in channel_names}
    if rows and all(rows.values()) and len({row.name for row in rows.values()}) == 1:
        row = next(iter(rows.values()))
        return Evidence(row.name, 0.95, f"the channel names ({', '.join(rows)}) are {row.name}")
    if dicom_modality in DICOM_TAGS:
        name = DICOM_TAGS[dicom_modality]
        return Evidence(name, 0.95, f"the DICOM files say Modality {dicom_modality}, which is {name}")
    seen = [looks(fact) for fact in facts]
    found = _by_pixels(seen, facts)
    if found is not None:
        return found
    raise UserError(
        "not sure which modality this dataset is, please set it",
        expected="'modality' in dataset.json, or --modality",
        found=f"channel names {', '.join(channel_names) or 'none'}; {_guesses(seen)}",
        fix="give one of " + ", ".join(m.name for m in modalities.TABLE) + ", or a name of your own",
    )


def _by_pixels(seen: Sequence[Sequence[Look]], facts: Sequence[PixelFacts]) -> Evidence | None:
    """What most images look like, when hardly any looks like something else."""
    votes = [vote for vote in map(_vote, seen) if vote is not None]
    if not votes:
        return None
    name = Counter(vote.modality for vote in votes).most_common(1)[0][0]
    chosen = [vote for vote in votes if vote.modality == name]
    share = len(chosen) / len(seen)
    confidence = 0.95 * share * sum(vote.score for vote in chosen) / len(chosen)
    confidence *= 1 if len(seen) >= _FEW else 0.85
    air = any(vote.what == "CT in Hounsfield units" for vote in chosen)
    few = len(chosen) < _FEWEST and not air
    if few or confidence < _ENOUGH or len(votes) - len(chosen) >= _AGAINST * len(seen):
        return None
    if name == "MRI" and not _own_scale(facts):
        return None
    return Evidence(name, round(confidence, 2), f"{len(chosen)} of {_images(seen)} look like {_described(chosen)}")


def _vote(found: Sequence[Look]) -> Look | None:
    """The look of an image that stands out from those of all other modalities."""
    if not found or found[0].score < _SURE:
        return None
    others = [look.score for look in found if look.modality != found[0].modality]
    return found[0] if found[0].score - max(others, default=0) >= _AHEAD else None


def _own_scale(facts: Sequence[PixelFacts]) -> bool:
    """Whether some values go beyond 8 bits and not all cases end at the same one, as what was scaled to it does."""
    tops = {fact.volume.highest for fact in facts}
    return len(tops) > 1 and max(tops) > 300


def _described(votes: Sequence[Look]) -> str:
    kinds = Counter(vote.what for vote in votes)
    signs = {vote.what: vote.present for vote in votes}
    return "; and ".join(f"{what}: {', '.join(signs[what])}" for what, _ in kinds.most_common())


def _guesses(seen: Sequence[Sequence[Look]]) -> str:
    """The two likeliest modalities over all images, with what speaks for and against them."""
    best: dict[str, list[Look]] = {}
    for found in seen:
        for name in {look.modality for look in found}:
            best.setdefault(name, []).append(max((look for look in found if look.modality == name), key=_likeness))
    if not best:
        return "the images are of a kind that is not told from pixels"
    order = sorted(best, key=lambda name: -sum(map(_likeness, best[name])))
    votes = Counter(vote.modality for vote in map(_vote, seen) if vote is not None)
    guesses = [_guess(best[name], votes[name], seen) for name in order[:2]]
    clearly = "looks" if votes else "looks like none of them clearly,"
    return f"{clearly} most like {', then like '.join(guesses)}"


def _likeness(look: Look) -> float:
    return look.score + len(look.present) / (len(look.present) + len(look.missing))


def _guess(views: Sequence[Look], votes: int, seen: Sequence) -> str:
    what = Counter(view.what for view in views).most_common(1)[0][0]
    views = [view for view in views if view.what == what]
    lacking = Counter(sign for view in views for sign in view.missing)
    every = dict.fromkeys(sign for view in views for sign in (*view.present, *view.missing))
    missing = [sign for sign, _ in lacking.most_common(_MOST_TOLD)]
    present = [sign for sign in every if lacking[sign] <= len(views) / 2 and sign not in missing]
    against = f"; against it: not {', not '.join(missing)}" if missing else ""
    often = f" in {votes} of {_images(seen)}" if votes else ""
    return f"{what}{often} (for it: {', '.join(present) or 'nothing'}{against})"


def _images(seen: Sequence) -> str:
    return f"{len(seen)} image{'s' if len(seen) != 1 else ''}"
