"""Planning and preprocessing a raw dataset with something wrong in it: what is told, and what is made all the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json, write_json
from delightsam_pipeline.preprocessing.run import plan_dataset, preprocess


def test_bad_splits_beside_the_data_leave_no_plan(raw, tmp_path):
    write_json(raw.folder / "splits_final.json", [{"train": ["a"], "val": ["a"]}])
    with pytest.raises(UserError, match=r"splits_final\.json.*on the same cases"):
        plan_dataset(raw, tmp_path / "out")
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


def test_one_broken_case_does_not_stop_the_others(raw, tmp_path):
    plan = plan_dataset(raw, tmp_path / "out")
    broken = raw.cases[1].images[0]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:50])
    with pytest.raises(UserError) as error:
        preprocess(raw, plan, tmp_path / "out")
    assert str(broken) in str(error.value)
    assert sorted(file.stem for file in (tmp_path / "out" / "cases").glob("*.json")) == list("acdef")
    broken.write_bytes(whole)
    assert preprocess(raw, plan, tmp_path / "out") == 1  # the others stood


def test_all_broken_cases_are_reported(raw, tmp_path):
    plan = plan_dataset(raw, tmp_path / "out")
    for number in (0, 3):
        raw.cases[number].label.write_bytes(b"nothing")
    with pytest.raises(UserError) as error:
        preprocess(raw, plan, tmp_path / "out")
    assert all(str(raw.cases[number].label) in str(error.value) for number in (0, 3))


def test_bad_data_leave_no_plan(raw, tmp_path):
    raw.cases[1].images[0].write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"b_0000\.png") as error:
        plan_dataset(raw, tmp_path / "out")
    assert error.value.exit_code == 2
    assert not list((tmp_path / "out").glob("*.json"))


def test_all_that_is_wrong_is_told_at_once(raw, tmp_path, caplog):
    unclear = replace(raw, channel_names=("image",))
    raw.cases[1].images[0].write_bytes(b"nothing")
    raw.cases[3].label.unlink()
    raw.cases[3].label.symlink_to(raw.cases[3].images[0])
    PIL.Image.fromarray(np.zeros((40, 48), np.uint8)).save(raw.cases[4].label)
    with pytest.raises(UserError) as error:
        plan_dataset(unclear, tmp_path / "out")
    text = str(error.value)
    assert text.startswith(f"3 errors and 1 warning in {raw.folder}:\n")
    assert all(part in text for part in ("b_0000.png", "d.png", "e.png", "modality"))
    assert caplog.text == ""


def test_what_is_only_strange_is_told_each_time(raw, tmp_path, caplog):
    PIL.Image.fromarray(np.zeros((40, 48), np.uint8)).save(raw.cases[4].label)
    for _ in range(2):
        caplog.clear()
        plan_dataset(raw, tmp_path / "out")
        assert "1 warning" in caplog.text and "e.png" in caplog.text
    assert [finding["case"] for finding in read_json(tmp_path / "out" / "fingerprint.json")["findings"]] == ["e"]
