"""The plan's augmentation: batchgenerators transforms, those that took most of the time written anew to agree with it.

Each image is changed in normalised intensities; what imitates an acquisition first goes back to black and white.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from batchgenerators.transforms.abstract_transforms import Compose
from batchgenerators.transforms.color_transforms import BrightnessMultiplicativeTransform, ContrastAugmentationTransform
from batchgenerators.transforms.spatial_transforms import MirrorTransform

from delightsam_pipeline.plans.plan import Augmentation, Plan
from delightsam_pipeline.training.augmentation import acquisition
from delightsam_pipeline.training.augmentation.classic import Sometimes, blur, gamma, lower_resolution, noise
from delightsam_pipeline.training.augmentation.levels import Levels
from delightsam_pipeline.training.augmentation.spatial import UNKNOWN, Spatial

__all__ = ["UNKNOWN", "Pipeline", "transforms"]


@dataclass(frozen=True)
class Pipeline:
    """spatial : comes first, and says before anything is read how much of a slice it needs. rest : all after it.

    Random numbers come from the global generators of numpy and of Python, which the loader seeds per sample.
    """

    spatial: Spatial
    rest: Compose


def transforms(plan: Plan) -> Pipeline:
    """From data [B, C, h, w] and seg [B, 1, h, w] of any size to the plan's patch size."""
    chosen = plan.augmentation
    spatial = Spatial(plan.patch_size, float(np.deg2rad(chosen.rotation_degrees)), chosen.scale)
    steps = [*_own(plan), *_common(chosen)]
    axes = tuple(axis for axis, flip in enumerate(chosen.flips) if flip)
    if axes:
        steps.append(MirrorTransform(axes))
    return Pipeline(spatial, Compose(steps))


def _common(chosen: Augmentation) -> list:
    """What all modalities share; at strength 1 the ranges are near to nnU-Net's."""
    wide = (1 - 0.25 * chosen.strength, 1 + 0.25 * chosen.strength)
    bent = {"limits": (1 - 0.3 * chosen.strength, 1 + 0.5 * chosen.strength), "per_channel": chosen.colour}
    return [
        Sometimes(partial(noise, largest=0.1 * chosen.strength), chosen.noise),
        Sometimes(partial(blur, sigma=(0.5, 1.0)), chosen.blur),
        BrightnessMultiplicativeTransform(wide, per_channel=chosen.colour, p_per_sample=chosen.brightness),
        ContrastAugmentationTransform(wide, per_channel=chosen.colour, p_per_sample=chosen.contrast),
        Sometimes(partial(lower_resolution, zoom=(0.5, 1)), chosen.low_resolution),
        Sometimes(partial(gamma, inverted=True, **bent), chosen.inverted_gamma),
        Sometimes(partial(gamma, inverted=False, **bent), chosen.gamma),
    ]


def _own(plan: Plan) -> list[Sometimes]:
    """What the plan takes of the modality's own changes, in black and white."""
    chosen, levels = plan.augmentation, Levels.of(plan)
    changes = {
        "stain": acquisition.stain,
        "tint": acquisition.tint,
        "shading": acquisition.shading,
        "depth_gain": acquisition.depth_gain,
        "speckle": partial(acquisition.speckle, one_grain=plan.input in ("rgb", "repeat")),
    }
    strengths = {name: getattr(chosen, name) for name in changes if getattr(chosen, name)}
    return [
        Sometimes(levels.between(partial(changes[name], strength=strength)), chosen.own_share)
        for name, strength in strengths.items()
    ]
