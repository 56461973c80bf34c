"""Looks on disk: cases that have not changed are not read again."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import SimpleITK
import tifffile

from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.files import read_json, write_json
from delightsam_pipeline.plans import fingerprint as module
from delightsam_pipeline.plans.fingerprint import fingerprint


@pytest.fixture
def raw(tmp_path, make_dataset):
    """Four pictures, a to d."""
    generator = np.random.default_rng(0)
    cases = {}
    for number, name in enumerate("abcd"):
        label = np.zeros((30, 40), np.uint8)
        label[5 : 20 + number, 5:30] = 1
        cases[name] = generator.integers(0, 255, label.shape, np.uint8), label
    return make_dataset(tmp_path / "raw" / "Dataset001_Pictures", cases)


@pytest.fixture
def read(monkeypatch):
    """The names of the cases that were read, in order."""
    names: list[str] = []
    look = module.look
    monkeypatch.setattr(module, "look", lambda case, dataset: (names.append(case.name), look(case, dataset))[1])
    return names


@pytest.fixture
def ask(read, tmp_path):
    """ask(dataset) -> (fingerprint, names of the cases that were read for it), its looks kept in one folder."""

    def ask(dataset):
        read.clear()
        print_ = fingerprint(dataset, tmp_path / "out", workers=1)
        return print_, "".join(read)

    return ask


def later(path: Path) -> None:
    """Give a file a later time of change, however coarse the file system's clock is."""
    time = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(time, time))


def test_nothing_is_read_twice(raw, ask):
    first, read = ask(raw)
    assert read == "abcd"
    second, read = ask(load_dataset(raw.folder))
    assert read == "" and second == first == fingerprint(raw, workers=1)


def test_only_the_cases_whose_files_changed_are_read(raw, ask):
    before, _ = ask(raw)
    shutil.copy(raw.cases[0].images[0], raw.cases[2].images[0])
    later(raw.cases[2].images[0])
    later(raw.cases[3].label)
    after, read = ask(raw)
    assert read == "cd"
    assert after.cases[2].image_sha256 == before.cases[0].image_sha256 != before.cases[2].image_sha256


@pytest.mark.parametrize(
    "entries",
    [
        {"labels": {"background": 0, "other": 1}},
        {"channel_names": {"0": "CT"}},
        {"mask_values": {"0": 0, "1": 1}},
        {"labels": {"background": 0, "lesion": 1, "ignore": 2}},
    ],
)
def test_another_meaning_is_looked_at_anew(raw, ask, entries):
    ask(raw)
    file = raw.folder / "dataset.json"
    write_json(file, read_json(file) | entries)
    assert ask(load_dataset(raw.folder))[1] == "abcd"


def test_another_group_or_modality_is_not(raw, ask):
    ask(raw)
    file = raw.folder / "dataset.json"
    write_json(file, read_json(file) | {"group": {"a": "p", "b": "p"}, "modality": "fundus"})
    print_, read = ask(load_dataset(raw.folder))
    assert read == "" and print_.modality == "fundus"


@pytest.mark.parametrize("change", ["VERSION", "__version__"])
def test_another_version_is_looked_at_anew(raw, ask, monkeypatch, change):
    ask(raw)
    monkeypatch.setattr(f"delightsam_pipeline.plans.look_files.{change}", "another")
    assert ask(raw)[1] == "abcd"


@pytest.mark.parametrize("damage", [b"", b"nothing", None])
def test_a_damaged_look_is_made_anew(raw, ask, tmp_path, damage):
    before, _ = ask(raw)
    file = tmp_path / "out" / "looks" / "b.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    after, read = ask(raw)
    assert read == "b" and after == before
    assert ask(raw)[1] == ""


def test_a_look_whose_bytes_were_changed_is_made_anew(raw, ask, tmp_path):
    ask(raw)
    file = tmp_path / "out" / "looks" / "b.npz"
    content = bytearray(file.read_bytes())
    for place in range(200, len(content), 97):
        content[place] ^= 255
    file.write_bytes(content)
    assert ask(raw)[1] == "b"


def test_looks_of_cases_that_are_gone_are_removed(raw, ask, tmp_path):
    ask(raw)
    print_, read = ask(replace(raw, cases=raw.cases[:2]))
    assert read == "" and [case.name for case in print_.cases] == ["a", "b"]
    assert sorted(file.name for file in (tmp_path / "out" / "looks").iterdir()) == ["a.npz", "b.npz"]


def test_what_cannot_be_read_is_tried_every_time(raw, ask):
    image = raw.cases[1].images[0]
    whole = image.read_bytes()
    image.write_bytes(whole[:60])
    first, _ = ask(raw)
    second, read = ask(raw)
    assert read == "b" and second == first
    assert [(finding.level, finding.case, finding.file) for finding in first.findings] == [("error", "b", str(image))]
    image.write_bytes(whole)
    later(image)
    print_, read = ask(raw)
    assert read == "b" and print_.findings == [] and len(print_.cases) == 4


def test_findings_name_the_files_where_they_are_now(raw, ask, tmp_path):
    PIL.Image.fromarray(np.zeros((30, 40), np.uint8)).save(raw.cases[1].images[0])
    assert "b_0000.png" in ask(raw)[0].findings[0].file
    moved = raw.folder.rename(tmp_path / "Dataset001_Pictures")
    print_, read = ask(load_dataset(moved))
    assert read == "b" and str(moved) in print_.findings[0].file


def test_a_file_that_may_be_read_now_is_tried_again(raw, ask, monkeypatch):
    ask(raw)
    access = os.access
    closed = raw.cases[2].label
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    assert ask(raw)[1] == "c"


def test_a_run_that_was_stopped_keeps_the_looks_it_had_made(raw, ask, read, monkeypatch):
    look = module.look

    def stop(case, dataset):
        if case.name == "c":
            raise KeyboardInterrupt
        return look(case, dataset)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "look", stop)
        ask(raw)
    assert ask(raw)[1] == "cd"


def test_several_channels_come_back_as_they_were(tmp_path, make_dataset, ask):
    generator = np.random.default_rng(0)
    label = np.zeros((4, 12, 14), np.uint8)
    label[1:3, 3:9, 3:9] = 1
    images = [generator.normal(10**n, 3, label.shape).astype(np.float32) for n in range(3)]
    channels = ("T1", "T2", "FLAIR")
    dataset = make_dataset(tmp_path / "Dataset002_MR", {"a": (images, label)}, (3.0, 1.0, 1.0), channels)
    first, _ = ask(dataset)
    second, read = ask(dataset)
    assert read == "" and second == first
    assert [numbers["mean"] for numbers in second.intensities] == pytest.approx(
        [image[label > 0].mean(dtype=float) for image in images]
    )


def five_volumes(folder: Path, ending: str, write) -> Path:
    """A raw dataset of MRI volumes, c0 to c4, with one class; write(file, array) makes the files."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in range(5):
        label = np.zeros((6, 40, 44), np.uint8)
        label[2:4, 3:18, 4:29] = 1
        image = np.random.default_rng(number).integers(0, 255, label.shape, np.uint8)
        write(folder / "imagesTr" / f"c{number}_0000{ending}", image)
        write(folder / "labelsTr" / f"c{number}{ending}", label)
    labels = {"background": 0, "spot": 1}
    write_json(folder / "dataset.json", {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ending})
    return folder


def test_voxels_beside_a_header_belong_to_the_case(tmp_path, ask):
    def write(file, array):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(file))

    folder = five_volumes(tmp_path / "raw" / "Dataset003_Meta", ".mhd", write)
    before = ask(load_dataset(folder))[0].cases[0]
    voxels = folder / "labelsTr" / "c0.raw"
    array = np.frombuffer(voxels.read_bytes(), np.uint8).copy()
    array[np.flatnonzero(array)[5:]] = 0
    voxels.write_bytes(array.tobytes())
    later(voxels)
    print_, read = ask(load_dataset(folder))
    assert read == "c0" and print_.cases[0].voxels == {"spot": 5} != before.voxels
    assert print_.cases[0].label_sha256 != before.label_sha256


def test_a_spacing_file_that_is_added_or_changed_is_seen(tmp_path, ask):
    def write(file, array):
        tifffile.imwrite(file, array, photometric="minisblack")

    folder = five_volumes(tmp_path / "raw" / "Dataset004_Stacks", ".tif", write)
    assert {finding.level for finding in ask(load_dataset(folder))[0].findings} == {"error"}
    for z in (2.5, 9.0):
        for number in range(5):
            for name in (f"imagesTr/c{number}.json", f"labelsTr/c{number}.json"):
                write_json(folder / name, {"spacing": [z, 0.7, 0.7]})
                os.utime(folder / name, ns=(int(z * 1e9), int(z * 1e9)))
        print_ = ask(load_dataset(folder))[0]
        assert [case.spacing for case in print_.cases] == [(z, 0.7, 0.7)] * 5
