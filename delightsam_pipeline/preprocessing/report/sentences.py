"""The plan as sentences: what will be done, and why."""

from __future__ import annotations

from collections.abc import Callable

from delightsam_pipeline.plans.plan import DECISIONS, Plan

_PLANES = ("axial", "coronal", "sagittal")


def sentences(plan: Plan) -> list[tuple[str, str, str]]:
    """(decision, what will be done, reason) of every decision, in the plan's order."""
    return [(name.replace("_", " "), _said(name, plan), plan.reasons[name]) for name in DECISIONS]


def _said(name: str, plan: Plan) -> str:
    say = _WORDS.get(name)
    return say(plan) if say is not None else f"{getattr(plan, name)}"


def _modality(plan: Plan) -> str:
    return f"The images are treated as {plan.modality}."


def _slicing_axis(plan: Plan) -> str:
    if not plan.physical:
        return "Each picture is one slice."
    return f"The network sees {_PLANES[plan.slicing_axis]} slices, one at a time."


def _input(plan: Plan) -> str:
    return {
        "rgb": "Red, green and blue go in as they are.",
        "repeat": "The one channel goes in three times.",
        "neighbours": "Each slice goes in between the slices before and after it.",
        "projection": f"A learned projection makes three inputs of {', '.join(plan.channel_names)}."
        if len(plan.channel_names) != 3
        else f"{', '.join(plan.channel_names)} go in as the three inputs.",
    }[plan.input]


def _scaling(plan: Plan) -> str:
    if plan.scaling == "fit":
        return "Every image is shrunk or enlarged, keeping its aspect, until it just fits the input."
    return "Every image is brought to the same spacing."


def _spacing(plan: Plan) -> str:
    rows, columns = (f"{value:.3g}" for value in plan.spacing)
    if plan.physical:
        return f"A pixel of the input is {rows} x {columns} mm."
    of = "the median image" if plan.scaling == "fit" else "the image"
    return f"A pixel of the input covers {rows} x {columns} pixels of {of}."


def _patch_size(plan: Plan) -> str:
    return f"The input has {plan.patch_size[0]} rows and {plan.patch_size[1]} columns."


def _tile_overlap(plan: Plan) -> str:
    return f"What is larger than the input is cut into tiles that overlap by {plan.tile_overlap:.0%}."


def _normalisation(plan: Plan) -> str:
    scheme = plan.normalisation
    if scheme.scheme == "ct":
        each = [
            f"clipped to {low:.0f} to {high:.0f}, less {mean:.0f}, divided by {std:.0f}"
            for low, high, mean, std in zip(scheme.lower, scheme.upper, scheme.mean, scheme.std, strict=True)
        ]
        return f"Values are {'; '.join(each)}."
    if scheme.scheme == "z-score":
        where = " over its nonzero voxels, zeros staying zero" if scheme.inside_nonzero else ""
        return f"Each case gets mean 0 and deviation 1{where}."
    if scheme.scheme == "percentile":
        return "Each image is stretched between its 0.5 and 99.5 percentiles."
    return f"Values from 0 to {scheme.full_scale:g} are scaled by a fixed mean and deviation."


def _resampling(plan: Plan) -> str:
    return f"Images are resampled by {plan.resampling} interpolation, labels class by class."


def _augmentation(plan: Plan) -> str:
    chosen = plan.augmentation
    flips = [name for name, flip in zip(("rows", "columns"), chosen.flips, strict=True) if flip]
    mirrored = f"mirrored along {' and '.join(flips)}" if flips else "never mirrored"
    colours = ", its colours changed one by one" if chosen.colour else ""
    low, high = chosen.scale
    return (
        f"A training slice may be turned by {chosen.rotation_degrees:g} degrees, scaled by {low:g} to {high:g} and "
        f"{mirrored}{colours}."
    )


def _training(plan: Plan) -> str:
    chosen = plan.training
    return (
        f"{chosen.epochs} epochs of {chosen.steps_per_epoch} steps, {chosen.batch_size} images a step, learning rate "
        f"{chosen.learning_rate:g}."
    )


_WORDS: dict[str, Callable[[Plan], str]] = {
    "modality": _modality,
    "slicing_axis": _slicing_axis,
    "input": _input,
    "scaling": _scaling,
    "spacing": _spacing,
    "patch_size": _patch_size,
    "tile_overlap": _tile_overlap,
    "normalisation": _normalisation,
    "resampling": _resampling,
    "augmentation": _augmentation,
    "training": _training,
}
