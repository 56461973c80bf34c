"""The page about a dataset that planning ends with."""

from __future__ import annotations


def test_the_report_is_written_told_and_kept(call, raw):
    file = raw.parents[1] / "preprocessed" / raw.name / "report.html"
    answer = call("plan_and_preprocess", "-d", "7")
    assert answer.code == 0, answer
    assert f"report: {file.relative_to(raw.parents[2])}" in answer.out
    assert "dlsam_train Dataset007_Squares 0" in file.read_text(encoding="utf-8")
    written = file.stat().st_mtime_ns
    assert call("plan_and_preprocess", "-d", "7").code == 0
    assert file.stat().st_mtime_ns == written


def test_the_report_can_be_left_out(call, raw):
    answer = call("plan_and_preprocess", "-d", "7", "--no-report")
    assert answer.code == 0, answer
    folder = raw.parents[1] / "preprocessed" / raw.name
    assert (folder / "plan.json").is_file() and not (folder / "report.html").exists()
    assert "report" not in answer.out + answer.err
