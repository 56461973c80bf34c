"""Small charts as SVG: histograms, densities, rows of values, bars and curves, with axes, units and marks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

import numpy as np

from delightsam_pipeline.preprocessing.report.markup import add, element, number
from delightsam_pipeline.preprocessing.report.scale import Scale

Marks = Sequence[tuple[float, str]]  # values that the plan took from a distribution, and what they are
_WIDTH, _HEIGHT = 300, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 34, 40
_ROW, _NAMES = 20, 120  # height of a row, width of the names before it
_ROWS_TOP = 4
_BINS = 21  # odd, so that values that are all the same stand in the middle of one
_LONGEST_NAME = 18


def histogram(title: str, values: Sequence[float], unit: str, marks: Marks = (), log: bool = False) -> Element:
    """How many cases have which value; a logarithmic axis leaves out values that are not above 0."""
    array = np.asarray(values, float)
    array = array[array > 0] if log else array
    if array.size == 0:
        return _empty(title)
    x = Scale.around([*array, *(value for value, _ in marks)], _LEFT, _WIDTH - _RIGHT, log)
    edges = _edges(x, array)
    counts = np.histogram(array, edges)[0]
    y = Scale(0, counts.max() * 1.05, _HEIGHT - _BOTTOM, _TOP)
    bars = [
        element("rect", x=_px(x(a) + 0.5), y=_px(y(n)), width=_px(x(b) - x(a) - 1), height=_px(y(0) - y(n)))
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
        if n
    ]
    counted = [tick for tick in y.ticks(4) if tick == round(tick)]
    parts = [
        element("g", *bars, class_="bar"),
        *_left_axis(y, counted, "cases"),
        *_bottom_axis(x, unit, whole=_are_whole(array)),
    ]
    text = f"{title}: {array.size} cases from {number(array.min())} to {number(array.max())} {unit}"
    return _figure(title, [*parts, *_marks(x, marks)], _WIDTH, _HEIGHT, text)


def _edges(x: Scale, values: np.ndarray, bins: int = _BINS) -> np.ndarray:
    """Borders of about so many bins; whole numbers get bins of whole width, so that none looks rarer than it is."""
    if x.log:
        return np.geomspace(x.low, x.high, bins + 1)
    if not _are_whole(values) or np.ptp(values) < 4:
        return np.linspace(x.low, x.high, bins + 1)
    step = math.ceil((np.ptp(values) + 1) / bins)
    return np.arange(values.min() - 0.5, values.max() + step, step)


def _are_whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())


def densities(title: str, series: Mapping[str, np.ndarray], unit: str, marks: Marks = ()) -> Element:
    """Distributions of voxel values beside each other, each scaled to its own peak, over their 0.1 to 99.9 percentile.

    The first is filled, the second a line.
    """
    series = {name: values for name, values in series.items() if values.size}
    if not series:
        return _empty(title)
    ends = [np.percentile(values, (0.1, 99.9)) for values in series.values()]
    x = Scale.around([*np.ravel(ends), *(value for value, _ in marks)], _LEFT, _WIDTH - _RIGHT)
    y = Scale(0, 1.05, _HEIGHT - _BOTTOM, _TOP)
    every = np.concatenate([*series.values()]).astype(float)
    edges, parts = _edges(x, every[(every >= x.low) & (every <= x.high)], 5 * _BINS), []
    for place, (name, values) in enumerate(series.items()):
        counts = np.histogram(values, edges)[0].astype(float)
        points = _steps(x, y, edges, counts / max(counts.max(), 1))
        parts.append(element("path", d=points, class_="filled" if place == 0 else "line"))
        style, at = ("key filled", _LEFT) if place == 0 else ("key end", _WIDTH - _RIGHT)
        parts.append(element("text", name, x=at, y=_HEIGHT - 9, class_=style))
    parts += [*_left_axis(y, [], "share of voxels"), *_bottom_axis(x, unit), *_marks(x, marks)]
    text = f"{title}: " + "; ".join(f"{name} median {number(np.median(v))}" for name, v in series.items())
    return _figure(title, parts, _WIDTH, _HEIGHT, text)


def _steps(x: Scale, y: Scale, edges: np.ndarray, heights: np.ndarray) -> str:
    points = [f"M{_px(x(edges[0]))} {_px(y(0))}"]
    points += [f"V{_px(y(h))}H{_px(x(e))}" for h, e in zip(heights, edges[1:], strict=True)]
    return "".join(points) + f"V{_px(y(0))}"


def rows(title: str, values: Mapping[str, Sequence[float]], unit: str, log: bool = False, what: str = "") -> Element:
    """A row per name: a tick per value, a band over the middle half, a line at the median.

    `what` says in the alternative text what the values are. A logarithmic axis leaves out what is not above 0.
    """
    kept = {name: np.asarray([v for v in row if v > 0 or not log], float) for name, row in values.items()}
    every = np.concatenate([*kept.values(), np.zeros(0)])
    if every.size == 0:
        return _empty(title)
    height = _ROWS_TOP + _ROW * len(kept) + _BOTTOM
    x = Scale.around(every, _NAMES, _WIDTH + 60 - _RIGHT, log)
    parts = []
    for place, (name, row) in enumerate(kept.items()):
        top = _ROWS_TOP + place * _ROW
        parts.append(_name(name, top))
        if row.size == 0:
            continue
        low, middle, high = (x(v) for v in np.percentile(row, (25, 50, 75)))
        rug = "".join(f"M{place} {top + 5}v10" for place in sorted({round(x(v)) for v in row}))
        band = {"x": _px(low), "y": top + 4, "width": _px(high - low), "height": 12}
        line = {"x1": _px(middle), "x2": _px(middle), "y1": top + 2, "y2": top + 18}
        parts += [element("rect", **band, class_="band"), element("path", d=rug, class_="rug")]
        parts.append(element("line", **line, class_="line"))
    medians = "; ".join(f"{name} {number(np.median(row))}" for name, row in kept.items() if row.size)
    text = f"{title}{what}, medians in {unit}: {medians}"
    return _figure(title, [*parts, *_bottom_axis(x, unit, height, _are_whole(every))], _WIDTH + 60, height, text)


def bars(title: str, counts: Mapping[str, int], total: int) -> Element:
    """A bar per name: in how many of `total` cases it is there."""
    height = _ROWS_TOP + _ROW * len(counts) + _BOTTOM
    x = Scale(0, total, _NAMES, _WIDTH + 10)
    parts = []
    for place, (name, count) in enumerate(counts.items()):
        top = _ROWS_TOP + place * _ROW
        box = {"x": _NAMES, "y": top + 4, "height": 12}
        parts += [_name(name, top), element("rect", **box, width=_px(x(total) - _NAMES), class_="rest")]
        parts.append(element("rect", **box, width=_px(x(count) - _NAMES), class_="bar"))
        parts.append(element("text", f"{count}", x=_WIDTH + 16, y=top + 14))
    text = f"{title}, of {total}: " + "; ".join(f"{name} {count}" for name, count in counts.items())
    return _figure(title, [*parts, *_bottom_axis(x, "cases", height)], _WIDTH + 60, height, text)


def curves(
    title: str,
    x_values: Sequence[float],
    series: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
    labels: tuple[str, str],
    marks: Marks,
    level: tuple[float, str],
) -> Element:
    """Curves over a logarithmic axis, with a level across; labels are those of the two axes."""
    x = Scale(min(x_values), max(x_values), _LEFT, _WIDTH - _RIGHT, log=True)
    y = Scale(min(level[0], *(min(curve) for curve in series.values())) - 0.02, 1, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        element("rect", x=_LEFT, y=_TOP, width=_WIDTH - _RIGHT - _LEFT, height=_HEIGHT - _BOTTOM - _TOP, class_="plot")
    ]
    for name, curve in series.items():
        points = " ".join(f"{_px(x(a))},{_px(y(b))}" for a, b in zip(x_values, curve, strict=True))
        parts.append(element("polyline", points=points, class_="curve", style=f"stroke:{colours[name]}"))
    across = {"x1": _LEFT, "x2": _WIDTH - _RIGHT, "y1": _px(y(level[0])), "y2": _px(y(level[0])), "class_": "level"}
    parts += [
        element("line", **across),
        element("text", level[1], x=_LEFT + 3, y=_px(y(level[0]) + 12), class_="on-plot"),
    ]
    parts += [*_left_axis(y, y.ticks(4), labels[1]), *_bottom_axis(x, labels[0]), *_marks(x, marks)]
    ends = "; ".join(f"{name} from {curve[0]:.2f} to {curve[-1]:.2f}" for name, curve in series.items())
    return _figure(title, parts, _WIDTH, _HEIGHT, f"{title}: {ends}")


def _empty(title: str) -> Element:
    return element("figure", element("figcaption", title), element("p", "There is nothing to show."), class_="chart")


def _figure(title: str, parts: Sequence[Element], width: int, height: int, text: str) -> Element:
    drawing = element("svg", role="img", aria_label=text, viewBox=f"0 0 {width} {height}", width=width, height=height)
    add(drawing, parts)
    return element("figure", element("figcaption", title), drawing, class_="chart")


def _name(name: str, top: float) -> Element:
    half = _LONGEST_NAME // 2
    shown = name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half + 1 :]}"
    return element("text", shown, element("title", name), x=_NAMES - 6, y=top + 14, class_="end")


def _bottom_axis(x: Scale, unit: str, height: int = _HEIGHT, whole: bool = False) -> list[Element]:
    """The axis with its ticks, on whole numbers only where the values are such."""
    line = height - _BOTTOM
    parts = [element("line", x1=_px(x.begin), x2=_px(x.end), y1=line, y2=line, class_="axis")]
    for tick in x.ticks():
        if whole and tick != round(tick):
            continue
        place = _px(x(tick))
        parts.append(element("line", x1=place, x2=place, y1=line, y2=line + 4, class_="axis"))
        parts.append(element("text", number(tick), x=place, y=line + 15, class_="middle"))
    return [*parts, element("text", unit, x=_px((x.begin + x.end) / 2), y=line + 31, class_="middle unit")]


def _left_axis(y: Scale, ticks: Sequence[float], unit: str) -> list[Element]:
    parts = [element("line", x1=_LEFT, x2=_LEFT, y1=_px(y.end), y2=_px(y.begin), class_="axis")]
    for tick in ticks:
        parts.append(element("line", x1=_LEFT - 4, x2=_LEFT, y1=_px(y(tick)), y2=_px(y(tick)), class_="axis"))
        parts.append(element("text", number(tick), x=_LEFT - 6, y=_px(y(tick) + 4), class_="end"))
    middle = (y.begin + y.end) / 2
    turned = f"rotate(-90 10 {_px(middle)})"
    return [*parts, element("text", unit, x=10, y=_px(middle), transform=turned, class_="middle unit")]


def _marks(x: Scale, marks: Marks) -> list[Element]:
    """Lines at the plan's choices; their names stand above the plot, in two rows when there are several."""
    parts = []
    for place, (value, name) in enumerate(marks):
        at, top = x(value), _TOP - 4 - 12 * (place % 2)
        share = (at - x.begin) / (x.end - x.begin)
        side = "end" if share > 0.7 or (share > 0.3 and place % 2 == 0) else "start"
        parts.append(element("line", x1=_px(at), x2=_px(at), y1=top, y2=_HEIGHT - _BOTTOM, class_="mark"))
        parts.append(
            element("text", name, x=_px(at + (3 if side == "start" else -3)), y=top + 2, class_=f"{side} mark")
        )
    return parts


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
