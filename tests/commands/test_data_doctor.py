"""The data doctor as a user meets it: one table and exit code 2, or warnings and a plan; --fix-geometry."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def raw(empty, make_pictures):
    return make_pictures(empty / "Dataset001_Squares", cases=4, modality="ultrasound")


def plan(call, raw, *options):
    return call("plan_and_preprocess", "-d", raw, "-o", raw.parent / "out", "--workers", 1, *options)


def mask_of(raw, number):
    return sorted((raw / "labelsTr").iterdir())[number]


def test_all_errors_in_one_table(call, raw):
    for number in (0, 2):
        Image.fromarray(np.full((64, 64), 9, np.uint8)).save(mask_of(raw, number))
    image = sorted((raw / "imagesTr").iterdir())[1]
    image.write_bytes(image.read_bytes()[:200])
    for _ in range(2):  # the second time from what was kept
        answer = plan(call, raw, "--plan-only")
        assert answer.code == 2 and "3 errors in" in answer.err, answer
        assert "error: 2 files: has undeclared label values; expected 0 1; found 9" in answer.err
        assert f"error: imagesTr/{image.name}: cannot be read as PNG" in answer.err
    assert not (raw.parent / "out" / raw.name / "plan.json").exists()


def test_warnings_do_not_stop_the_planning(call, raw):
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(mask_of(raw, 3))
    answer = plan(call, raw, "--plan-only")
    assert answer.code == 0 and "its mask is empty, as 1 of 4 masks are" in answer.out, answer
    kept = json.loads((raw.parent / "out" / raw.name / "fingerprint.json").read_text())["findings"]
    assert [finding["level"] for finding in kept] == ["warning"]


def test_fix_geometry(call, raw):
    file = mask_of(raw, 1)
    with Image.open(file) as stored:
        small = np.asarray(stored)[::2, ::2]
    Image.fromarray(small).save(file)
    answer = plan(call, raw)
    assert answer.code == 2 and "--fix-geometry" in answer.err, answer
    answer = plan(call, raw, "--fix-geometry", "--no-report")
    assert answer.code == 0 and "resampled to its image's grid by --fix-geometry" in answer.out, answer
    store = raw.parent / "out" / raw.name / "cases"
    assert len(list(store.glob("*.json"))) == 4
    assert plan(call, raw).code == 2  # what was kept with the option does not hold without it
