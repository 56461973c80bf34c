"""Charts of a dataset: sizes, spacings, intensities and classes, with the plan's choices where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from delightsam_pipeline.plans.fingerprint import Fingerprint
from delightsam_pipeline.plans.layout import STRIDE, SURVIVAL
from delightsam_pipeline.plans.looks import CaseFacts
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.plans.survival import CELLS
from delightsam_pipeline.preprocessing.report.charts import bars, curves, densities, histogram, rows
from delightsam_pipeline.preprocessing.report.markup import element, number, table
from delightsam_pipeline.preprocessing.report.pictures import COLOURS, colour
from delightsam_pipeline.preprocessing.report.samples import foreground

_AXES = ("z (feet to head)", "y (front to back)", "x (right to left)")
_LOG_FROM = 50  # how many times the smallest value the largest is, for a logarithmic axis
_MOST_ROWS = 30  # classes with rows of their own; the table has all of them


def geometry(print_: Fingerprint, plan: Plan) -> list[Element]:
    """Sizes and, where there are mm, spacings, with the input's size and spacing in them."""
    inside = [axis for axis in range(3) if axis != plan.slicing_axis]
    native = np.median([case.spacing for case in print_.cases], axis=0)
    charts = []
    for axis in range(3):
        sizes = [case.shape[axis] for case in print_.cases]
        name = _AXES[axis] if print_.physical else ("slices", "rows", "columns")[axis]
        if max(sizes) > 1:
            marks = []
            if axis in inside:
                place = inside.index(axis)
                covered = plan.patch_size[place] * plan.spacing[place] / native[axis]
                marks = [(covered, f"the input covers {number(covered)}")]
            charts.append(histogram(f"Size along {name}", sizes, "voxels" if print_.physical else "pixels", marks))
    for axis in range(3) if print_.physical else ():
        marks = [(plan.spacing[inside.index(axis)], "input")] if axis in inside else []
        charts.append(histogram(f"Spacing along {_AXES[axis]}", [c.spacing[axis] for c in print_.cases], "mm", marks))
    return charts


def intensities(
    print_: Fingerprint, plan: Plan, names: Sequence[str], whole: Sequence[Sequence], inside: Sequence[Sequence]
) -> list[Element]:
    """Values of each channel in the sample cases, foreground against whole image.

    names : of the cases. whole, inside : per case and channel, values. Where values mean the same in every case they
    are put together, with the plan's clipping marked; else the range of all cases is shown, and a row for each
    sample case, so that one sees how they differ.
    """
    charts = []
    scheme, unit = plan.normalisation.scheme, "HU" if plan.normalisation.scheme == "ct" else "stored value"
    for channel, title in enumerate(print_.channel_names):
        parts = {"whole image": [case[channel] for case in whole], "foreground": [case[channel] for case in inside]}
        if scheme in ("ct", "photograph"):
            pooled = {name: np.concatenate(values) for name, values in parts.items()}
            charts.append(densities(f"Values of {title}", pooled, unit, _clipping(plan, channel)))
            continue
        ends = [case.intensities[channel]["percentile_99_5"] for case in print_.cases]
        log = _is_wide(ends)
        charts.append(histogram(f"99.5 percentile of {title}, all cases", ends, unit, log=log))
        for part, values in parts.items():
            spread = np.linspace(0.005, 0.995, 101)
            found = {name: np.quantile(v, spread) for name, v in zip(names, values, strict=True) if v.size}
            charts.append(rows(f"Values of {title}, {part}", found, unit, log, " per sample case"))
    return charts


def _clipping(plan: Plan, channel: int) -> list[tuple[float, str]]:
    if plan.normalisation.scheme != "ct":
        return []
    lower, upper = plan.normalisation.lower[channel], plan.normalisation.upper[channel]
    return [(lower, f"clipped at {number(lower)}"), (upper, f"clipped at {number(upper)}")]


def _is_wide(values: Sequence[float]) -> bool:
    """Whether values span so much that only a logarithmic axis shows them; those that are not above 0 do not count."""
    above = [value for value in values if value > 0]
    return bool(above) and max(above) > _LOG_FROM * min(above)


def classes(print_: Fingerprint, plan: Plan) -> list[Element]:
    """How many cases hold each class, volumes, connected parts, share of the foreground, and what a grid leaves."""
    labels = plan.targets
    shares = [foreground(case, labels) / _extent(case) for case in print_.cases]
    volumes, parts = _volumes(print_, plan), _parts(print_, plan)
    shown = list(labels.classes)[:_MOST_ROWS]
    unit = _unit(print_)
    charts = [
        bars("Cases that hold each class", {name: len(volumes[name]) for name in shown}, len(print_.cases)),
        rows("Volume per case" if print_.physical else "Area per case", {n: volumes[n] for n in shown}, unit, log=True),
        rows(
            "Connected parts per case",
            {n: parts[n] for n in shown},
            "parts",
            _is_wide([n for row in parts.values() for n in row]),
        ),
        histogram("Share of an image that is foreground", [100 * s for s in shares], "%", log=_is_wide(shares)),
    ]
    chart = _survival(print_, plan)
    return [*charts, *([] if chart is None else [chart]), _class_table(print_, plan, volumes, parts)]


def _extent(case: CaseFacts) -> float:
    """The size of a whole image in the unit of its classes' sizes."""
    return float(np.prod(case.shape)) * (float(np.prod(case.spacing)) / 1000 if case.physical else 1.0)


def _unit(print_: Fingerprint) -> str:
    return "ml" if print_.physical else "pixels"


def _volumes(print_: Fingerprint, plan: Plan) -> dict[str, list[float]]:
    """Class -> its size in each case that holds it."""
    return {name: [c.volume[name] for c in print_.cases if c.voxels.get(name)] for name in plan.targets.classes}


def _parts(print_: Fingerprint, plan: Plan) -> dict[str, list[int]]:
    return {name: [c.components[name] for c in print_.cases if c.components.get(name)] for name in plan.targets.classes}


def _survival(print_: Fingerprint, plan: Plan) -> Element | None:
    """What of each class is left on grids of growing cells, and the cell of the plan: where its spacing comes from."""
    means = {}
    for name in plan.targets.classes:
        found = [case.survival[name] for case in print_.cases if name in case.survival]
        if found:
            means[name] = np.mean(found, axis=0)
    if not means:
        return None
    hardest = sorted(means, key=lambda name: float(means[name].sum()))[: len(COLOURS)]
    places = {name: colour(plan.targets.classes.index(name)) for name in hardest}
    inside = [axis for axis in range(3) if axis != plan.slicing_axis]
    native = np.median([case.spacing for case in print_.cases], axis=0)
    cell = STRIDE * float(np.mean([s / native[axis] for s, axis in zip(plan.spacing, inside, strict=True)]))
    return curves(
        "What survives on a coarser grid",
        CELLS,
        {name: means[name] for name in hardest},
        places,
        ("side of a cell, image pixels", "Dice"),
        [(min(max(cell, CELLS[0]), CELLS[-1]), f"mask grid: {number(cell)}")],
        (SURVIVAL, f"wanted: {SURVIVAL}"),
    )


def _class_table(print_: Fingerprint, plan: Plan, volumes, parts) -> Element:
    unit = _unit(print_)
    lines = []
    for name in plan.targets.classes:
        size, count = volumes[name], parts[name]
        annotated = sum(name not in case.not_annotated for case in print_.cases)
        held = f"{len(size)} of {annotated}"
        ends = (f"{number(np.median(size))}", f"{number(min(size))} to {number(max(size))}") if size else ("-", "-")
        lines.append((name, held, *ends, f"{np.median(count):g} ({min(count)} to {max(count)})" if count else "-"))
    head = ("class", "cases that hold it", f"median {unit}", f"range, {unit}", "parts (range)")
    return element("div", table("Classes", head, lines), class_="wide")


def extremes(cases: Sequence[CaseFacts]) -> tuple[str, str]:
    """Shapes of the smallest and the largest case, z y x."""
    ordered = sorted(cases, key=lambda case: int(np.prod(case.shape)))
    first, last = (" x ".join(str(n) for n in case.shape if n > 1) for case in (ordered[0], ordered[-1]))
    return first, last
