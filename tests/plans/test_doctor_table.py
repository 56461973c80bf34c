"""Findings as a table for people: errors first, the same problem once, never too long."""

from __future__ import annotations

from pathlib import Path

import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.findings import Finding, counted, table

RAW = Path("/data/raw/Dataset001_X")


def finding(number: int, problem: str = "is constant", level="warning", fix="look at it") -> Finding:
    return Finding(level=level, file=str(RAW / f"imagesTr/{number}.png"), problem=problem, fix=fix, case=str(number))


def test_none():
    assert table([]) == "" and counted([]) == "no problems"


def test_one_is_told_with_all_it_says():
    error = UserError("has undeclared label values", file=RAW / "a.png", expected="0 1", found=3, fix="mend it")
    lines = ["error: a.png: has undeclared label values; expected 0 1; found 3", "  -> mend it"]
    assert table([Finding.of(error)], RAW).splitlines() == lines
    assert table([Finding.of(error)]).startswith(f"error: {RAW / 'a.png'}: has")
    assert table([Finding(level="error", file=str(RAW), problem="is mixed")], RAW) == "error: Dataset001_X: is mixed"
    assert table([Finding(level="error", file="", problem="is mixed")], RAW) == "error: is mixed"


def test_errors_come_first():
    lines = table([finding(1), finding(2, "is broken", "error")]).splitlines()
    assert lines[0].startswith("error: ") and lines[2].startswith("warning: ")
    assert counted([finding(1), finding(2, level="error"), finding(3)]) == "1 error and 2 warnings"


@pytest.mark.parametrize(
    ("problem", "heading", "lines"),
    [
        ("is constant; found 0", "is constant; found 0", ["imagesTr/1.png", "imagesTr/2.png"]),
        ("is constant; found {}", "is constant", ["imagesTr/1.png: found 1", "imagesTr/2.png: found 2"]),
        (
            "{} values are wrong; found {}",
            "... values are wrong",
            ["imagesTr/1.png: 1 values are wrong; found 1", "imagesTr/2.png: 2 values are wrong; found 2"],
        ),
        (
            "lies beside /data/{}.png",
            "lies beside ...",
            ["imagesTr/1.png: lies beside /data/1.png", "imagesTr/2.png: lies beside /data/2.png"],
        ),
    ],
)
def test_the_same_problem_is_told_once(problem, heading, lines):
    found = [finding(n, problem.format(n, n)) for n in (1, 2)]
    expected = [f"warning: 2 files: {heading}", *(f"  {line}" for line in lines), "  -> look at it"]
    assert table(found, RAW).splitlines() == expected


def test_files_in_a_problem_are_called_by_their_place_too():
    found = finding(1, f"does not lie on the same grid as {RAW / 'imagesTr/1.png'}")
    assert table([found], RAW).splitlines()[0].endswith("does not lie on the same grid as imagesTr/1.png")


def test_two_hundred_are_still_a_short_table():
    lines = table([finding(n) for n in range(200)], RAW).splitlines()
    assert lines[0] == "warning: 200 files: is constant" and len(lines) == 8
    assert lines[-2:] == ["  and 195 more", "  -> look at it"]
    kinds = [finding(n, f"is {chr(97 + n // 26)}{chr(97 + n % 26)}") for n in range(200)]
    lines = table([*kinds, finding(0, "is broken", "error")], RAW).splitlines()
    assert len(lines) == 51 and lines[0].startswith("error") and lines[-1] == "and 176 warnings of other kinds"
