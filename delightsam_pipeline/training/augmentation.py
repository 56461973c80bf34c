"""The plan's augmentation as batchgenerators transforms (probabilities and ranges near to nnU-Net)."""

from __future__ import annotations

import numpy as np
from batchgenerators.transforms.abstract_transforms import Compose
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
from batchgenerators.transforms.resample_transforms import SimulateLowResolutionTransform
from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform

from delightsam_pipeline.plans.plan import Plan

UNKNOWN = -1  # label of what lies outside the image


def transforms(plan: Plan) -> Compose:
    """From data [B, C, h, w] and seg [B, 1, h, w] of any size to the plan's patch size.

    Random numbers come from the global generators of numpy and of Python, which the loader seeds per sample.
    """
    chosen = plan.augmentation
    angle = np.deg2rad(chosen.rotation_degrees)
    steps = [
        SpatialTransform(
            plan.patch_size,
            do_elastic_deform=False,
            do_rotation=True,
            angle_x=(-angle, angle),
            do_scale=True,
            scale=chosen.scale,
            border_mode_data="nearest",
            order_data=1,
            border_mode_seg="constant",
            border_cval_seg=UNKNOWN,
            order_seg=0,
            random_crop=False,
            p_scale_per_sample=0.3,
            p_rot_per_sample=0.3,
        ),
        GaussianNoiseTransform(noise_variance=(0, 0.1), p_per_sample=0.1),
        GaussianBlurTransform((0.5, 1.0), different_sigma_per_channel=False, p_per_sample=0.2),
        BrightnessMultiplicativeTransform((0.75, 1.25), per_channel=chosen.colour, p_per_sample=0.15),
        ContrastAugmentationTransform((0.75, 1.25), per_channel=chosen.colour, p_per_sample=0.15),
        SimulateLowResolutionTransform((0.5, 1), order_downsample=0, order_upsample=1, p_per_sample=0.15),
        GammaTransform((0.7, 1.5), invert_image=True, per_channel=chosen.colour, retain_stats=True, p_per_sample=0.1),
        GammaTransform((0.7, 1.5), invert_image=False, per_channel=chosen.colour, retain_stats=True, p_per_sample=0.3),
    ]
    axes = tuple(axis for axis, flip in enumerate(chosen.flips) if flip)
    if axes:
        steps.append(MirrorTransform(axes))
    return Compose(steps)
