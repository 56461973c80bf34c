"""Which modality a dataset is, with the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans import modalities


@dataclass(frozen=True)
class Evidence:
    """A dataset's modality and why: name, confidence 0..1, one sentence."""

    modality: str
    confidence: float
    reason: str


def identify(
    given: str | None, channel_names: Sequence[str], physical: bool, lowest: float, highest: float, air_share: float
) -> Evidence:
    """Which modality a dataset is, by what is given, then its channel names, then CT's values.

    physical : whether the files carry a spacing in mm. lowest, highest : over all images. air_share : share of voxels
    below -900. Raises UserError when nothing tells.
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
    if physical and len(channel_names) == 1 and -4096 <= lowest <= -900 and highest >= 200 and air_share > 0.02:
        sentence = f"values from {lowest:g} to {highest:g} with {air_share:.0%} of voxels below -900 (air in HU) are CT"
        return Evidence("CT", 0.9, sentence)
    raise UserError(
        "the modality of this dataset cannot be told with confidence",
        expected="'modality' in dataset.json, or --modality",
        found=f"channel names {', '.join(channel_names) or 'none'}",
        fix="give one of " + ", ".join(m.name for m in modalities.TABLE) + ", or a name of your own",
    )
