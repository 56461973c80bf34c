"""DICOM series and single files: values, geometry from positions, and folders that hold no one volume."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from delightsam_pipeline.data.cases import input_cases
from delightsam_pipeline.data.formats import ending_of, output_ending, read_case, read_image, stem_of, write_labels
from delightsam_pipeline.data.masks import read_labels
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import identity

VOLUME = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
XRAY, ULTRASOUND = (f"1.2.840.10008.5.1.4.1.1.{rest}" for rest in ("1.1", "6.1"))
PLACE = {"00200032": r"10\20\30", "00200037": r"1\0\0\0\1\0", "00280030": r"0.6\0.5"}


def test_a_series_of_files_with_any_names(tmp_path, write_series):
    folder = write_series(tmp_path / "case 1.a", VOLUME)
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "notes.txt").write_text("x")
    (folder / "thumbnail.png").write_bytes(b"x")
    image = read_image(folder)
    np.testing.assert_array_equal(image.array[0], VOLUME)
    assert image.array.dtype == np.int16 and image.source == folder and image.header is None
    assert image.grid.spacing == (2, 0.6, 0.5) and image.grid.origin == (10, 20, 30) and image.grid.physical
    assert (ending_of(folder), stem_of(folder), output_ending(folder)) == (".dcm", "case 1.a", ".nii.gz")


@pytest.mark.parametrize(("tag", "said"), [("MR", "MR"), ("PT ", "PT"), ("", "")])
def test_what_the_file_says_it_was_made_with(tmp_path, write_series, tag, said):
    image = read_image(write_series(tmp_path / "a", VOLUME, elements={"00080060": tag}))
    assert image.modality == said


def test_channels_made_with_two_machines_say_neither(tmp_path, write_series):
    folders = [write_series(tmp_path / tag, VOLUME, elements={"00080060": tag}) for tag in ("CT", "PT")]
    assert read_case(folders).modality == "" and read_case(folders[:1] * 2).modality == "CT"


def test_slices_lie_where_their_positions_say_not_in_the_order_of_names(tmp_path, write_series):
    positions = [(0, 0, 9), (0, 0, 3), (0, 0, 6)]
    image = read_image(write_series(tmp_path / "a", VOLUME, positions))
    np.testing.assert_array_equal(image.array[0], VOLUME[[1, 2, 0]])
    assert image.grid.spacing[0] == 3 and image.grid.origin[2] == 3


def test_a_sagittal_series_comes_onto_canonical_axes(tmp_path, write_series):
    turned = {"00200037": r"0\1\0\0\0\-1"}
    positions = [(x, 7, 50) for x in (30, 26, 22)]
    image = read_image(write_series(tmp_path / "a", VOLUME, positions, turned))
    assert image.array.shape == (1, 4, 5, 3) and image.grid.spacing == (0.6, 0.5, 4)
    z, y, x = 4 - 1 - 2, 3, 2  # row 2 from above, column 3, the slice with the largest x
    assert image.array[0, z, y, x] == VOLUME[0, 2, 3]
    np.testing.assert_allclose((image.grid.affine() @ [z, y, x, 1])[:3], (30, 7 + 3 * 0.5, 50 - 2 * 0.6))


def test_masks_are_nifti_on_the_series_own_axes(tmp_path, write_series):
    folder = write_series(
        tmp_path / "a", VOLUME, [(30 - 4 * z, 7, 50) for z in range(3)], {"00200037": r"0\1\0\0\0\-1"}
    )
    image = read_image(folder)
    labels = (image.array[0] % 7).astype(np.uint8)
    write_labels(tmp_path / "a.nii.gz", labels, image)
    stored = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.sort(np.linalg.norm(stored.affine[:3, :3], axis=0)), np.float32([0.5, 0.6, 4]))
    again = read_labels(tmp_path / "a.nii.gz")
    assert again.grid.same_space(image.grid, 1e-4)
    np.testing.assert_array_equal(again.array[0], labels)
    with pytest.raises(UserError, match=r"b\.dcm: masks are not written in this format; expected \.nii\.gz"):
        write_labels(tmp_path / "b.dcm", labels, image)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [("1", "-1024", "i"), ("2.0", "-3", "i"), ("0.5", "0", "f"), ("0.123", "1", "f")]
)
def test_rescaling_keeps_whole_numbers_whole(tmp_path, write_series, slope, intercept, dtype):
    folder = write_series(tmp_path / "a", VOLUME, elements={"00281052": intercept, "00281053": slope})
    array = read_image(folder).array
    assert array.dtype.kind == dtype and array.dtype != np.float64
    np.testing.assert_allclose(array[0], VOLUME * float(slope) + float(intercept), rtol=1e-6)


def test_slices_with_slopes_of_their_own(tmp_path, write_dicom):
    for z in range(3):
        own = {"00200032": rf"0\0\{z}", "00281052": "0", "00281053": str(z + 0.5)}
        write_dicom(tmp_path / "a" / f"{z}.dcm", VOLUME[z], PLACE | own)
    array = read_image(tmp_path / "a").array
    np.testing.assert_allclose(array[0], VOLUME * np.array([0.5, 1.5, 2.5]).reshape(3, 1, 1))


def line(*z):
    return [(0, 0, v) for v in z]


@pytest.mark.parametrize(
    ("positions", "problem"),
    [
        (
            line(0, 2, 6, 8),
            "not evenly spaced; expected 2 mm between all slices; found 4 mm between slices 2 and 3 of 4",
        ),
        (line(0, 2, 4, 6.4), "not evenly spaced; expected 2 mm .*; found 2.4 mm between slices 3 and 4 of 4"),
        (line(0, 2, 2, 4), "several slices lie at the same place; expected 3 slices; found 4 slices"),
        ([(0, 0.5 * z, 2 * z) for z in range(4)], r"shifted against each other \(gantry tilt\).*14\.04 degrees"),
    ],
)
def test_slices_that_make_no_even_volume_are_refused(tmp_path, write_series, positions, problem):
    folder = write_series(tmp_path / "a", np.zeros((4, 4, 5), np.int16), positions)
    with pytest.raises(UserError, match=f"/a: .*{problem}"):
        read_image(folder)


def test_positions_rounded_when_they_were_written_are_even(tmp_path, write_series):
    positions = line(*(round(0.624 * z, 2) for z in range(4)))
    image = read_image(write_series(tmp_path / "a", np.zeros((4, 4, 5), np.int16), positions))
    assert image.grid.spacing[0] == pytest.approx(0.624, abs=2e-3)


@pytest.mark.parametrize(
    ("elements", "pixels", "problem"),
    [
        ({"0020000e": "1.2.3.99"}, VOLUME[0], "does not hold one DICOM series; expected 1; found 2; put each series"),
        ({}, VOLUME[0, :3], "different sizes; found 5 x 3 x 1, 5 x 4 x 1"),
        ({"00280030": r"0.6\0.4"}, VOLUME[0], "different pixel spacings; found 0.4 x 0.6 mm, 0.5 x 0.6 mm"),
        ({"00200037": r"0\1\0\0\0\-1"}, VOLUME[0], "different orientations"),
        ({"00200032": ""}, VOLUME[0], r"does not say where its slices lie.*found 1 of 4 files without"),
    ],
)
def test_files_that_belong_to_something_else_are_refused(
    tmp_path, write_series, write_dicom, elements, pixels, problem
):
    folder = write_series(tmp_path / "a", VOLUME)
    write_dicom(folder / "other", pixels, PLACE | {"00200032": r"10\20\36"} | elements)
    with pytest.raises(UserError, match=f"/a: .*{problem}"):
        read_image(folder)


def test_reports_and_plans_beside_the_slices_are_left_out(tmp_path, write_series, write_dicom):
    folder = write_series(tmp_path / "a", VOLUME)
    for number, kind in enumerate(("88.11", "481.3", "11.1", "104.1")):
        elements = {"0020000e": "1.2.3.99"}
        write_dicom(folder / f"x{number}.dcm", VOLUME[0], elements, kind=f"1.2.840.10008.5.1.4.1.1.{kind}")
    assert read_image(folder).array.shape == (1, 3, 4, 5)


def test_damaged_files_are_named(tmp_path, write_series, capfd):
    folder = write_series(tmp_path / "a", VOLUME, names="{}.dcm".format)
    content = (folder / "1.dcm").read_bytes()
    for kept in (0, 100, 140, 300, len(content) - 20):
        (folder / "1.dcm").write_bytes(content[:kept])
        with pytest.raises(UserError, match=r"1\.dcm: cannot be read as DICOM .*may be incomplete") as caught:
            read_image(folder)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_sizes_that_the_file_does_not_hold_are_refused(tmp_path, write_dicom):
    with pytest.raises(UserError, match=r"a\.dcm: cannot be read as DICOM .*more than the file can hold"):
        read_image(write_dicom(tmp_path / "a.dcm", VOLUME[0], PLACE | {"00280011": 60000}))
    with pytest.raises(UserError, match=r"b\.dcm: .*more than the file can hold"):
        read_image(write_dicom(tmp_path / "b.dcm", VOLUME, {"00280008": "400000000"}))


def test_files_without_preamble(tmp_path, write_dicom):
    for z in range(3):
        write_dicom(tmp_path / "a" / f"I{z}", VOLUME[z], PLACE | {"00200032": rf"0\0\{z}"}, preamble=False)
    np.testing.assert_array_equal(read_image(tmp_path / "a").array[0], VOLUME)


@pytest.mark.parametrize(
    ("elements", "spacing"),
    [
        ({"00181164": r"0.2\0.1"}, (0.2, 0.1)),
        ({"00280030": r"0.4\0.3", "00181164": r"0.2\0.1"}, (0.4, 0.3)),
        ({"00280030": r"1\1"}, (1, 1)),
        ({}, None),
        ({"00280030": r"0\0"}, None),
    ],
)
def test_a_single_xray(tmp_path, write_dicom, elements, spacing):
    image = read_image(write_dicom(tmp_path / "a.dcm", VOLUME[0].astype(np.uint16), elements, XRAY))
    assert image.array.dtype == np.uint16 and image.grid.physical == (spacing is not None)
    assert image.grid.shape == (1, 4, 5) and image.grid.spacing[1:] == (spacing or (1, 1))
    np.testing.assert_array_equal(image.array[0, 0], VOLUME[0])


def test_high_is_bright(tmp_path, write_dicom):
    dark = {"00280004": "MONOCHROME1", "00280101": 12, "00280102": 11}
    image = read_image(write_dicom(tmp_path / "a.dcm", VOLUME[0].astype(np.uint16), dark, XRAY))
    np.testing.assert_array_equal(image.array[0, 0], 4095 - VOLUME[0])


def test_colours_are_channels(tmp_path, write_dicom):
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    image = read_image(write_dicom(tmp_path / "a.dcm", pixels, kind=ULTRASOUND, colour=True))
    assert image.array.dtype == np.uint8 and not image.grid.physical
    np.testing.assert_array_equal(image.array[:, 0], pixels.transpose(2, 0, 1))
    frames = np.stack([pixels, 255 - pixels])
    image = read_image(write_dicom(tmp_path / "b.dcm", frames, kind="1.2.840.10008.5.1.4.1.1.3.1", colour=True))
    np.testing.assert_array_equal(image.array, frames.transpose(3, 0, 1, 2))
    assert image.grid.shape == (2, 4, 5) and not image.grid.physical


def test_frames_of_one_file_lie_where_their_positions_say(tmp_path, write_frames):
    image = read_image(write_frames(tmp_path / "a.dcm", VOLUME, [(1, 2, z) for z in (9, 3, 6)]))
    np.testing.assert_array_equal(image.array[0], VOLUME[[1, 2, 0]])
    assert image.grid.spacing == (3, 0.6, 0.5) and image.grid.origin == (1, 2, 3)
    with pytest.raises(UserError, match="not evenly spaced"):
        read_image(write_frames(tmp_path / "b.dcm", VOLUME, [(1, 2, z) for z in (0, 3, 9)]))


def test_frames_without_positions_of_their_own(tmp_path, write_dicom):
    image = read_image(write_dicom(tmp_path / "a.dcm", VOLUME, PLACE | {"00180088": "4", "00180050": "5"}))
    assert image.grid.spacing == (4, 0.6, 0.5) and image.grid.origin == (10, 20, 30)
    np.testing.assert_array_equal(image.array[0], VOLUME)


def test_nothing_about_the_patient_is_kept(tmp_path, write_series):
    folder = write_series(tmp_path / "a", VOLUME, elements={"00100010": "Doe^Jane"})
    image = read_image(folder)
    write_labels(tmp_path / "a.nii", np.zeros(image.grid.shape, np.uint8), image)
    assert b"Doe" in (folder / "CT.1.2.0").read_bytes()
    assert b"Doe" not in (tmp_path / "a.nii").read_bytes() and "Doe" not in repr(image)


def test_channels_in_folders_of_their_own(tmp_path, write_series):
    folders = [write_series(tmp_path / f"a_{c:04d}", VOLUME + 100 * c) for c in range(2)]
    (case,) = input_cases(tmp_path, 2)
    assert case.name == "a" and list(case.images) == folders
    assert input_cases(folders[0], 2) == (case,)
    assert read_case(case.images).array[:, 0, 0, 0].tolist() == [0, 100]


def test_the_identity_of_a_series_changes_with_its_files(tmp_path, write_series):
    folder = write_series(tmp_path / "a", VOLUME)
    first = identity(folder)
    assert first == identity(folder) and first[1] == sum(file.stat().st_size for file in folder.iterdir())
    os.utime(folder / "CT.1.2.1", ns=(1, 1))
    second = identity(folder)
    (folder / "CT.1.2.2").unlink()
    assert len({str(first), str(second), str(identity(folder))}) == 3


REAL = Path(os.environ.get("DLSAM_TEST_DATA") or "none-given") / "quirks" / "dicom_series"


@pytest.mark.skipif(not REAL.is_dir(), reason="DLSAM_TEST_DATA names no folder with such a series")
def test_a_real_series_whose_thickness_is_not_its_spacing(tmp_path):
    image = read_image(REAL)
    assert image.grid.shape == (20, 512, 512) and image.array.dtype == np.int16 and image.array.min() == -1024
    np.testing.assert_allclose(image.grid.spacing, (2, 0.9765625, 0.9765625))
    write_labels(tmp_path / "a.nii.gz", image.array[0] > 0, image)
    assert nibabel.load(tmp_path / "a.nii.gz").header.get_zooms() == (0.9765625, 0.9765625, 2)
