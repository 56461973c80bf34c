"""From files and DICOM folders to cases; the naming of channels is tested with the datasets."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data.cases import Case, input_cases, list_files
from delightsam_pipeline.data.formats import ending_of, known_ending, stem_of
from delightsam_pipeline.data.parallel import workers_for
from delightsam_pipeline.errors import UserError

SLICES = np.zeros((3, 4, 5), np.int16)
XRAY = "1.2.840.10008.5.1.4.1.1.1.1"


def png(path: Path) -> Path:
    PIL.Image.fromarray(np.zeros((4, 6), np.uint8)).save(path)
    return path


def named(cases: tuple[Case, ...]) -> list[tuple[str, list[str]]]:
    return [(case.name, [path.name for path in case.images]) for case in cases]


def test_a_series_folder_is_one_case(tmp_path, write_series, monkeypatch):
    for name in ("a_0000", "b.c", "d.nii"):
        folder = write_series(tmp_path / name, SLICES)
        (case,) = input_cases(folder, 1)
        assert case.name == name.removesuffix("_0000") and case.images == (folder,)
    assert [f.name for f in list_files(tmp_path)] == ["a_0000", "b.c", "d.nii"]
    assert list_files(tmp_path, ".nii") == []
    monkeypatch.chdir(tmp_path / "b.c")
    assert stem_of(Path(".")) == "b.c" and input_cases(Path("."), 1)[0].name == "b.c"


def test_what_is_passed_over_is_told(tmp_path, write_series, caplog):
    folder = write_series(tmp_path / "a", SLICES)
    input_cases(folder, 1)
    input_cases(tmp_path, 1)
    assert not caplog.records
    (folder / "CT.1.2.9").write_bytes(b"")  # a slice that was not copied
    (tmp_path / "b.webp").write_bytes(b"")
    write_series(tmp_path / "patient" / "study", SLICES)
    input_cases(folder, 1)
    input_cases(tmp_path, 1)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.endswith("a: passed over, since they are no images to read here: CT.1.2.9")
    assert second.endswith("no images to read here: b.webp, patient")


def test_a_folder_of_series_and_files(tmp_path, write_series):
    write_series(tmp_path / "a_0000", SLICES)
    write_series(tmp_path / "b", SLICES)
    write_series(tmp_path / ".hidden", SLICES)
    png(tmp_path / "c.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "readme").write_text("DICM")
    expected = [("a", ["a_0000"]), ("b", ["b"]), ("c", ["c.png"])]
    assert named(input_cases(tmp_path, 1)) == expected
    assert named(input_cases(tmp_path, 1, ".dcm")) == expected[:2]


def test_a_series_lacks_a_channel(tmp_path, write_series):
    for channel in (0, 1):
        write_series(tmp_path / f"a_{channel:04d}", SLICES)
    with pytest.raises(UserError, match=r"a_0002: is missing; a case needs 3 channel files"):
        input_cases(tmp_path / "a_0000", 3)


@pytest.mark.parametrize("series", [("1.1", "1.2", "1.3"), ("1.1", "1.1", "1.1"), ("", "", "")])
def test_many_xrays_in_a_folder_are_cases_of_their_own(tmp_path, write_dicom, series):
    for number, uid in enumerate(series):
        write_dicom(tmp_path / f"x{number}.dcm", SLICES[0], {"0020000e": uid}, XRAY)
    (tmp_path / "x1.dcm").write_bytes(b"damaged")
    assert [name for name, _ in named(input_cases(tmp_path, 1))] == ["x0", "x1", "x2"]


def test_slices_that_say_where_they_lie_are_one_case(tmp_path, write_series):
    folder = write_series(tmp_path / "a", SLICES, names="{}.dcm".format)
    assert named(input_cases(folder, 1)) == [("a", ["a"])]


def test_some_dicom_among_pictures_makes_no_series(tmp_path, write_dicom):
    for name in ("a", "b"):
        png(tmp_path / f"{name}.png")
    write_dicom(tmp_path / "c.dcm", SLICES[0])
    assert known_ending(tmp_path) is None
    assert [name for name, _ in named(input_cases(tmp_path, 1))] == ["a", "b", "c"]


def test_a_damaged_slice_makes_no_other_folder_of_it(tmp_path, write_series):
    folder = write_series(tmp_path / "a", SLICES, names="{}.dcm".format)
    (folder / "0.dcm").write_bytes(b"")
    assert ending_of(folder) == ".dcm"


def test_workers_are_counted_by_all_files_of_a_series(tmp_path, write_series, monkeypatch):
    monkeypatch.setattr("delightsam_pipeline.data.parallel.cores", lambda: 4)
    cases = [input_cases(write_series(tmp_path / name, SLICES), 1)[0] for name in "ab"]
    assert workers_for(cases) == 0
    with open(tmp_path / "a" / "CT.1.2.1", "ab") as file:
        file.truncate(9 * 2**20)
    assert workers_for(cases) == 2


def test_input_from_a_folder(tmp_path):
    for name in ("b_0000", "b_0001", "a_0001", "a_0000"):
        png(tmp_path / f"{name}.png")
    assert named(input_cases(tmp_path, 2)) == [("a", ["a_0000.png", "a_0001.png"]), ("b", ["b_0000.png", "b_0001.png"])]
    (tmp_path / "b_0001.png").unlink()
    with pytest.raises(UserError, match=r"b_0000\.png: misses channel files; expected b_0001"):
        input_cases(tmp_path, 2)


def test_input_of_one_file_per_case(tmp_path):
    png(tmp_path / "a_0000.png")
    png(tmp_path / "b.PNG.png")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)), tmp_path / "c_0000.nii.gz")
    expected = [("a", ["a_0000.png"]), ("b.PNG", ["b.PNG.png"]), ("c", ["c_0000.nii.gz"])]
    assert named(input_cases(tmp_path, 3)) == named(input_cases(tmp_path, 1)) == expected
    assert named(input_cases(tmp_path, 1, ".png")) == expected[:2]


def test_numbered_frames_are_not_taken_for_channels(tmp_path):
    for i in range(4):
        png(tmp_path / f"frame_{i:04d}.png")
    with pytest.raises(UserError, match=r"frame_0003\.png: .*expected CASE_0000 to CASE_0002; .*frame_0003_0000"):
        input_cases(tmp_path, 3)
    assert named(input_cases(tmp_path / "frame_0002.png", 3)) == [("frame_0002", ["frame_0002.png"])]


def test_input_of_one_file(tmp_path):
    for name in ("a_0000", "a_0001", "b_0000", "c"):
        png(tmp_path / f"{name}.png")
    assert named(input_cases(tmp_path / "a_0000.png", 2)) == [("a", ["a_0000.png", "a_0001.png"])]
    assert named(input_cases(tmp_path / "a_0000.png", 1)) == [("a", ["a_0000.png"])]
    assert named(input_cases(tmp_path / "b_0000.png", 3)) == [("b", ["b_0000.png"])]
    assert named(input_cases(tmp_path / "c.png", 1, ".png")) == [("c", ["c.png"])]
    with pytest.raises(UserError, match=r"a_0002\.png: is missing; a case needs 3 channel files"):
        input_cases(tmp_path / "a_0000.png", 3)
    with pytest.raises(UserError, match="another ending"):
        input_cases(tmp_path / "c.png", 1, ".nii.gz")


def test_input_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        input_cases(tmp_path / "none", 1)
    with pytest.raises(UserError, match=r"no images that can be read.*found nothing"):
        input_cases(tmp_path, 1)
    (tmp_path / "a.webp").write_bytes(b"x")
    (tmp_path / "b.webp").write_bytes(b"x")
    with pytest.raises(UserError, match=r"expected \.nii\.gz \.nii .*; found 2 \.webp"):
        input_cases(tmp_path, 1)
    with pytest.raises(UserError, match=r"a\.webp: is not in a format"):
        input_cases(tmp_path / "a.webp", 1)
