"""Charts of a report: places on axes, bins that count what is there, marks where the plan chose."""

from __future__ import annotations

import re

import numpy as np
import pytest

from delightsam_pipeline.preprocessing.report.charts import bars, curves, densities, histogram, rows
from delightsam_pipeline.preprocessing.report.markup import element, html, number
from delightsam_pipeline.preprocessing.report.scale import Scale


def test_an_axis_runs_from_end_to_end():
    linear, log = Scale(0, 10, 40, 240), Scale(1, 100, 40, 240, log=True)
    assert (linear(0), linear(5), linear(10)) == (40, 140, 240)
    assert log(10) == pytest.approx(140)
    assert (linear(-3), log(0), log(1e9)) == (40, 40, 240)  # beyond the ends
    turned = Scale(0, 1, 100, 0)
    assert turned(0.25) == 75


@pytest.mark.parametrize(
    ("low", "high", "log"), [(0, 10, False), (-1024, 3071, False), (3e-4, 7e5, True), (2, 9, True)]
)
def test_ticks_are_few_round_and_within(low, high, log):
    ticks = Scale(low, high, 0, 100, log).ticks()
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert len({number(tick) for tick in ticks}) == len(ticks)  # short texts tell them apart


@pytest.mark.parametrize("value", [0.0, 7.0, -1000.0])
def test_values_that_are_all_the_same_stand_in_the_middle(value):
    assert Scale.around([value, value], 0, 100)(value) == pytest.approx(50)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.0123"), (4.567, "4.57"), (812.4, "812"), (9999, "9999"), (15000, "15k"), (1.7e6, "1.7M")],
)
def test_numbers_read_well(value, text):
    assert number(value) == text


def heights(chart) -> list[float]:
    """Of a histogram's bars."""
    return [float(box.get("height")) for box in chart.iter("rect")]


@pytest.mark.parametrize("values", [[3, 3, 3, 5], [0.5, 0.5, 0.5, 0.75], [*range(1, 61)] * 3 + [100]])
@pytest.mark.parametrize("log", [False, True])
def test_a_histogram_counts_every_case(values, log):
    shown = heights(histogram("Size", values, "mm", log=log))
    one_case = min(shown)  # the last value comes once
    assert sum(shown) / one_case == pytest.approx(len(values), rel=0.05)


def test_whole_numbers_get_bins_of_equal_chance():
    """With bins of a broken width, some hold one whole number and others two."""
    shown = heights(histogram("Size", [*range(30)] * 4, "voxels"))
    assert len(set(shown)) == 1


def test_voxels_of_8_bit_need_more_than_8_bits_of_bins():
    values = np.arange(256, dtype=np.uint8)
    chart = densities("Values", {"whole image": values, "foreground": values[:100]}, "value")
    assert len([*chart.iter("path")]) == 2


def test_marks_stand_at_their_values():
    chart = histogram("Spacing", [1.0, 2.0, 3.0], "mm", [(2.0, "input")])
    (mark,) = [line for line in chart.iter("line") if line.get("class") == "mark"]
    lengths = {float(n.get("x2")) - float(n.get("x1")): n for n in chart.iter("line") if n.get("class") == "axis"}
    axis = lengths[max(lengths)]
    assert float(mark.get("x1")) == pytest.approx((float(axis.get("x1")) + float(axis.get("x2"))) / 2, abs=0.1)
    assert "input" in html(chart)


def test_rows_leave_out_what_a_logarithm_cannot_show():
    chart = rows("Volume", {"liver": [1.0, 10.0, 0.0], "none": []}, "ml", log=True)
    (rug,) = [path for path in chart.iter("path") if path.get("class") == "rug"]
    assert rug.get("d").count("M") == 2
    assert "none" in html(chart)


def test_many_values_make_no_longer_a_chart():
    chart = html(rows("Volume", {"a": np.linspace(1, 2, 100_000)}, "ml"))
    assert len(chart) < 10_000


def test_nothing_to_show_is_said():
    empty = {"a": np.zeros(0)}
    charts = [histogram("A", [], "mm"), densities("B", empty, ""), rows("C", {"a": []}, "")]
    charts.append(histogram("D", [0], "mm", log=True))
    assert all("nothing to show" in html(chart) for chart in charts)


def test_bars_and_curves_are_read_out():
    chart = html(bars("Cases", {"left": 3, "right": 4}, 4))
    assert re.search(r'aria-label="Cases, of 4: left 3; right 4"', chart)
    chart = curves("Survival", [1, 2, 4], {"a": [1, 0.9, 0.2]}, {"a": "#fff"}, ("px", "Dice"), [], (0.95, "wanted"))
    assert "a from 1.00 to 0.20" in html(chart)


def test_texts_are_escaped_and_cleaned():
    assert html(element("p", "<b>&", title='"<&')) == '<p title="&quot;&lt;&amp;">&lt;b&gt;&amp;</p>'
    assert html(element("p", "a\x00b\x1b[31mc\udcff")) == "<p>ab[31mc?</p>"
    assert html(element("p", "one ", element("b", "two"), " three", None)) == "<p>one <b>two</b> three</p>"
