"""Paired differences of two methods, and the sentence that says what they show."""

import numpy as np
import pytest

from delightsam_pipeline.data.image import Grid
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.comparison import compare, comparison_table, verdict
from delightsam_pipeline.evaluation.metrics import case_metrics
from delightsam_pipeline.evaluation.summary import CaseResult, summarise

LABELS = {"organ": (1,), "lesion": (2,)}
GRID = Grid((1, 1, 8), (5.0, 1.0, 1.0))


def summary_of(rows, references):
    """A summary of pictures of one row each."""
    cases = []
    for number, (row, reference) in enumerate(zip(rows, references, strict=True)):
        metrics = case_metrics(np.array([[row]]), np.array([[reference]]), LABELS, grid=GRID)
        cases.append(CaseResult(f"c{number}", metrics, "", ""))
    return summarise(cases, LABELS, "mm", 2.0)


def organ(begin, end):
    """An organ of columns begin to end, and a lesion that everybody finds."""
    return [int(begin <= column < end) for column in range(7)] + [2]


def many(first, second, count=10):
    """A comparison where the first method predicts `first(i)` and the second `second(i)` of an organ 0 to 4."""
    references = [organ(0, 4)] * count
    one, other = (summary_of([organ(0, method(i)) for i in range(count)], references) for method in (first, second))
    return one | {"comparison": compare(one, other, "there")}


def test_methods_in_different_units_are_not_compared():
    one = summary_of([organ(0, 4)], [organ(0, 4)])
    with pytest.raises(UserError, match="different units; found mm and px"):
        compare(one, one | {"unit": "px"}, "there")


def test_by_hand():
    comparison = many(lambda i: 4, lambda i: 4 if i else 3, 4)["comparison"]
    row = comparison["mean"]["1"]["Dice"]
    assert row["difference"] == pytest.approx((1 - 6 / 7) / 4)
    assert (row["n_cases"], row["n_better"], row["n_worse"], row["n_equal"]) == (4, 1, 0, 3)
    assert row["interval"] is None
    assert comparison["mean"]["2"]["Dice"]["n_equal"] == 4
    assert comparison["foreground_mean"]["Dice"]["difference"] == pytest.approx((1 - 6 / 7) / 8)
    assert comparison["foreground_mean"]["Dice"]["n_better"] == 1


def test_a_smaller_distance_is_better():
    row = many(lambda i: 4, lambda i: 6)["comparison"]["mean"]["1"]["HD95"]
    assert row["difference"] < 0 and row["n_better"] == 10
    assert row["interval"][1] < 0


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (lambda i: 4, lambda i: 3, "Dice is higher than that of there"),
        (lambda i: 2 + i % 2, lambda i: 4, "Dice is lower than that of there"),
        (lambda i: 3 + i % 2, lambda i: 4 - i % 2, "no difference is shown: the 95 % interval"),
        (lambda i: 4, lambda i: 4, "no difference is shown: the 95 % interval"),
    ],
)
def test_the_sentence_says_what_the_interval_shows(first, second, words):
    assert verdict(many(first, second)["comparison"]).startswith(words)


def test_few_cases_and_no_cases_claim_nothing():
    assert verdict(many(lambda i: 4, lambda i: 1, 9)["comparison"]).startswith("no difference is claimed: under 10")
    empty = summary_of([[0] * 8], [[0] * 8])
    assert "no case where both have a Dice" in verdict(compare(empty, empty, "there"))


def test_only_cases_where_both_are_defined_are_compared():
    references = [[0] * 8, [1] + [0] * 7, [0] * 8]
    one = summary_of([[1] + [0] * 7, [1] + [0] * 7, [0] * 8], references)
    other = summary_of([[0] * 8, [0] * 8, [0] * 8], references)
    comparison = compare(one, other, "there")
    assert comparison["mean"]["1"]["Dice"]["n_cases"] == 1
    assert comparison["mean"]["1"]["Dice"]["difference"] == 1
    assert comparison["n_only_prediction"] == {"1": 1, "2": 0} and comparison["n_only_against"] == {"1": 0, "2": 0}
    text = comparison_table(one | {"comparison": comparison})
    assert "left out, where there is nothing: predicted by this one alone 1, other 0" in text


def test_groups_not_cases_are_drawn():
    one, other = (summary_of([organ(0, end)] * 12, [organ(0, 4)] * 12) for end in (4, 3))
    for row in one["metric_per_case"]:
        row["group"] = f"p{int(row['name'][1:]) % 9}"
    comparison = compare(one, other, "there")
    assert comparison["n_groups"] == 9 and comparison["foreground_mean"]["Dice"]["interval"] is None


def test_table():
    lines = comparison_table(many(lambda i: 4, lambda i: 2 + i % 2)).splitlines()
    assert lines[0].startswith("differences from there") and max(map(len, lines[1:])) <= 100
    rows = [line.split() for line in lines[2:11]]
    assert [row[0] for row in rows] == ["organ"] * 3 + ["lesion"] * 3 + ["mean"] * 3
    assert rows[0][:4] == ["organ", "Dice", "10", "+0.2381"] and rows[0][-3:] == ["10", "0", "0"]
    assert rows[1][1:3] == ["HD95", "mm"] and rows[3][-3:] == ["0", "0", "10"]
    assert lines[-1].startswith("Dice is higher")
