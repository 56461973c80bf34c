"""dlsam_convert as a user calls it: what is shown, what is written, what is refused."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def mine(empty):
    """Eight pictures, seven of them with a mask of 0 and 255, in folders under names of the user's own."""
    rng = np.random.default_rng(0)
    for part in ("scans", "drawn"):
        (empty / part).mkdir()
    for i in range(8):
        mask = np.zeros((64, 80), np.uint8)
        mask[10 + i : 30, 20 : 50 + i] = 255
        Image.fromarray(rng.integers(0, 100, (64, 80), np.uint8) + mask // 3).save(empty / "scans" / f"scan {i}.png")
        if i:
            Image.fromarray(mask).save(empty / "drawn" / f"scan {i}.png")
    return empty


PAIR = ("--images", "scans", "--masks", "drawn", "-o", "Dataset301_Scans")


def test_a_dry_run_shows_everything_and_writes_nothing(mine, call):
    before = sorted(mine.rglob("*"))
    answer = call("convert", *PAIR, "--modality", "ultrasound", "--labels", "lesion", "--dry-run")
    assert answer.code == 0, answer
    assert "recognised: a folder of images and one of masks in scans and drawn" in answer.out
    assert "7 cases for training, 1 for testing" in answer.out
    assert "without a mask, so in imagesTs: scan_0\n" in answer.out
    assert "  scans/scan 1.png -> imagesTr/scan_1_0000.png\n  drawn/scan 1.png -> labelsTr/scan_1.png\n" in answer.out
    shown = answer.out.partition("proposed dataset.json:\n")[2].partition("\n}\n")[0] + "}"
    assert json.loads(shown) == {
        "channel_names": {"0": "ultrasound"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 7,
        "file_ending": ".png",
        "modality": "ultrasound",
    }
    assert "nothing was written" in answer.out
    assert sorted(mine.rglob("*")) == before


def test_the_result_is_planned(mine, call):
    (mine / "Dataset301_Scans").mkdir()
    answer = call("convert", *PAIR, "--modality", "ultrasound")
    assert answer.code == 0, answer
    assert "next: dlsam_plan_and_preprocess -d Dataset301_Scans" in answer.out and "warning" not in answer.out
    assert "imagesTr/" not in answer.out
    assert sorted(path.name for path in mine.iterdir()) == ["Dataset301_Scans", "drawn", "scans"]
    copy = mine / "Dataset301_Scans" / "imagesTs" / "scan_0_0000.png"
    assert copy.read_bytes() == (mine / "scans" / "scan 0.png").read_bytes()
    planned = call("plan_and_preprocess", "-d", "Dataset301_Scans", "--plan-only")
    assert planned.code == 0 and "7 training cases" in planned.out, planned


def test_a_long_map_of_groups_is_cut_on_the_screen_only(mine, call):
    lines = [f"scans/scan {i}.png,drawn/scan {i}.png,p{i // 2}" for i in range(1, 8)]
    (mine / "cases.csv").write_text("\n".join(["image,mask,group", *lines]))
    answer = call("convert", "cases.csv", "-o", "Dataset301_Scans", "--link", "symbolic")
    assert answer.code == 0, answer
    assert "(1 cases in 'group' are not shown)" in answer.out and '"scan_7"' not in answer.out
    assert json.loads((mine / "Dataset301_Scans" / "dataset.json").read_text())["group"]["scan_7"] == "p3"
    assert (mine / "Dataset301_Scans" / "labelsTr" / "scan_7.png").is_symlink()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-o", "x"], "there is nothing to convert; give one of INPUT, --images DIR and --csv FILE"),
        (["scans", "--csv", "a.csv", "-o", "x"], "the source is given twice"),
        (["scans", "-o", "drawn"], "drawn: exists and is not an empty folder"),
        (["scans", "-o", "scans/x"], "scans/x: lies in the source, which is never changed"),
        (["--images", "scans", "--masks", "drawn", "-o", "drawn/x"], "drawn/x: lies in the source, which is never"),
        (["--images", "scans", "--masks", "drawn", "-o", "scans/x"], "scans/x: lies in the source, which is never"),
        (
            ["scans", "--masks", "drawn", "-o", "Dataset301_X", "--labels", "a", "a"],
            "--labels names a class twice; found a a",
        ),
        (["scans", "-o", "Dataset301_X"], "scans: has images but no masks"),
        (["a.csv", "-o", "Dataset301_X"], "a.csv: does not exist"),
    ],
)
def test_what_is_refused(mine, fails, arguments, text):
    before = sorted(mine.rglob("*"))
    assert text in fails("convert", *arguments)
    assert sorted(mine.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("Scans", "Dataset001_Scans"),
        ("Dataset5_Scans", "Dataset005_Scans"),
        ("Dataset301", "Dataset301_Name"),
        ("301_Scans", "Dataset301_Scans"),
        ("my scans", "'out/Dataset001_my scans'"),
    ],
)
def test_a_name_that_no_dataset_has(mine, fails, name, right):
    before = sorted(mine.rglob("*"))
    line = fails("convert", *PAIR[:-1], f"out/{name}", "--dry-run")
    assert f"out/{name}: is no name of a dataset; expected a name such as Dataset301_Lung" in line
    assert line.endswith(f"; write -o {right if ' ' in name else 'out/' + right}")
    assert sorted(mine.rglob("*")) == before


def test_an_id_that_another_dataset_has(mine, fails, call, monkeypatch):
    for name in ("Dataset301_Lung", "Dataset302_Skin"):
        (mine / "out" / name).mkdir(parents=True)
    line = fails("convert", *PAIR[:-1], "out/Dataset301_Scans")
    other = (mine / "out" / "Dataset301_Lung").resolve()
    assert line == (
        f"error: out/Dataset301_Scans: has an id that another dataset has, {other}; write -o out/Dataset303_Scans"
    )
    assert not (mine / "out" / "Dataset301_Scans").exists()
    assert call("convert", *PAIR[:-1], "out/Dataset303_Scans").code == 0
    # where ids are looked up in several folders, in all of them
    monkeypatch.setenv("nnUNet_raw", str(mine / "out"))
    assert "Dataset301_Lung; write -o dlsam/raw/Dataset304_" in fails(
        "convert", *PAIR[:-1], "dlsam/raw/Dataset301_Scans"
    )


def test_that_copies_are_not_looked_into_is_said(mine, call):
    damaged = mine / "scans" / "scan 3.png"
    damaged.write_bytes(damaged.read_bytes()[:300])
    answer = call("convert", *PAIR, "--modality", "ultrasound")
    assert answer.code == 0, answer
    *_, said, following = answer.out.strip().splitlines()
    assert said == "what was copied was not looked into: the next command reads every case and tells what is damaged"
    planned = call("plan_and_preprocess", *following.split()[2:])
    assert planned.code == 2 and "scan_3_0000.png: cannot be read as PNG" in planned.err


def test_the_output_may_lie_beside_a_table_but_not_among_the_files_that_it_lists(mine, call, fails):
    (mine / "cases.csv").write_text("image,mask\nscans/scan 1.png,drawn/scan 1.png\n")
    before = sorted(mine.rglob("*"))
    for output in ("scans/Dataset301_Scans", "drawn/Dataset301_Scans"):
        line = fails("convert", "--csv", "cases.csv", "-o", output)
        assert f"{output}: lies in the source, which is never changed" in line
    assert sorted(mine.rglob("*")) == before
    assert call("convert", "--csv", "cases.csv", "-o", "Dataset301_Scans").code == 0


@pytest.mark.parametrize("label", ["=1", "liver=", "liver=red", "liver=-1"])
def test_labels_that_are_none(mine, refuses, label):
    assert f"'{label}' is not NAME or NAME=VALUE" in refuses("convert", "scans", "-o", "x", "--labels", label)
