"""NRRD, MetaImage and GIPL: geometry, types, channels, the files that are written, and damaged or unusable ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from delightsam_pipeline.data.formats import read_case, read_image, write_labels
from delightsam_pipeline.data.image import Grid, Image, Orientation
from delightsam_pipeline.data.masks import read_labels
from delightsam_pipeline.errors import UserError

ENDINGS = (".nrrd", ".mha", ".mhd", ".gipl", ".gipl.gz")
VOLUME = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
NRRD = "type: uint8\ndimension: 3\nsizes: 5 4 3\nencoding: raw\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_UCHAR\n"
BYTES = bytes(range(60))


def save(path: Path, data: np.ndarray, spacing=None, compress=False, vector=False) -> Path:
    image = sitk.GetImageFromArray(data, isVector=vector)
    image.SetSpacing(spacing or image.GetSpacing())
    sitk.WriteImage(image, str(path), compress)
    return path


def nrrd(path: Path, header: str, data: bytes = BYTES) -> Path:
    path.write_bytes(f"NRRD0005\n{header}\n".encode() + data)
    return path


def mha(path: Path, header: str, data: bytes = BYTES) -> Path:
    path.write_bytes(f"{header}ElementDataFile = LOCAL\n".encode() + data)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_volume(tmp_path, ending):
    image = read_image(save(tmp_path / f"a{ending}", VOLUME, (0.5, 1.5, 3)))
    np.testing.assert_array_equal(image.array[0], VOLUME)
    assert image.array.dtype == np.int16 and image.grid.spacing == (3, 1.5, 0.5) and image.grid.physical


def test_a_nrrd_in_ras(tmp_path):
    """Row and column of the file run to R and P, slices to S: x is flipped on the way to L, P, S."""
    space = "space: right-anterior-superior\nspace directions: (2,0,0) (0,-3,0) (0,0,4)\nspace origin: (10,20,30)\n"
    image = read_image(nrrd(tmp_path / "a.nrrd", NRRD + space))
    assert image.grid.spacing == (4, 3, 2) and image.orientation.flips == (False, False, True)
    stored = np.frombuffer(BYTES, np.uint8).reshape(3, 4, 5)
    np.testing.assert_array_equal(image.array[0], stored[:, :, ::-1])
    assert image.grid.origin == (-10 - 4 * 2, -20, 30)  # of the voxel that lies furthest to the right


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(t, t) for t in (np.uint8, np.int8, np.uint16, np.int32, np.int64)]
    + [(np.float32, np.float32), (np.float64, np.float32)],
)
def test_types(tmp_path, dtype, kept):
    for ending in (".nrrd", ".mha"):
        assert read_image(save(tmp_path / f"a{ending}", VOLUME.astype(dtype))).array.dtype == kept


@pytest.mark.parametrize("ending", (".nrrd", ".mha"))
def test_channels(tmp_path, ending):
    vectors = np.arange(120, dtype=np.uint8).reshape(3, 4, 5, 2)
    image = read_case([save(tmp_path / f"v{ending}", vectors, vector=True)])
    np.testing.assert_array_equal(image.array, vectors.transpose(3, 0, 1, 2))
    image = read_case([save(tmp_path / f"t{ending}", vectors.transpose(3, 0, 1, 2), (2, 3, 4, 1))])
    np.testing.assert_array_equal(image.array, vectors.transpose(3, 0, 1, 2))
    write_labels(tmp_path / f"l{ending}", image.array[1], image)
    assert sitk.ReadImage(tmp_path / f"l{ending}").GetSpacing() == (2, 3, 4)
    with pytest.raises(UserError, match="too many axes"):
        read_case([save(tmp_path / f"b{ending}", np.zeros((2, 3, 4, 5, 2), np.uint8), vector=True)])
    colours = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    image = read_case([save(tmp_path / f"c{ending}", colours, vector=True)])
    np.testing.assert_array_equal(image.array[:, 0], colours.transpose(2, 0, 1))


@pytest.mark.parametrize("ending", (".nrrd", ".mha", ".mhd"))
def test_flat_files_come_back_flat(tmp_path, ending):
    for spacing in ((0.2, 0.3), (1, 1)):
        image = read_image(save(tmp_path / f"a{ending}", VOLUME[0], spacing))
        assert image.array.shape == (1, 1, 4, 5) and image.grid.physical == (spacing != (1, 1))
        write_labels(tmp_path / f"b{ending}", image.array[0], image)
        written = sitk.ReadImage(tmp_path / f"b{ending}")
        assert written.GetSpacing() == spacing
        np.testing.assert_array_equal(sitk.GetArrayFromImage(written), VOLUME[0])


def turned(physical=True) -> Image:
    file_grid = Grid((3, 4, 5), (4, 3, 2), (7, 8, 9), ((0, -1, 0), (0, 0, 1), (-1, 0, 0)), physical)
    orientation = Orientation.to_canonical(file_grid)
    grid = orientation.apply_to_grid(file_grid)
    return Image(np.arange(60).reshape(1, *grid.shape), grid, orientation)


@pytest.mark.parametrize("ending", (".nrrd", ".mha", ".mhd"))
def test_labels_for_an_image_of_another_format(tmp_path, ending):
    image = turned()
    write_labels(tmp_path / f"a{ending}", image.array[0], image)
    written = sitk.ReadImage(tmp_path / f"a{ending}")
    assert written.GetSize() == (5, 4, 3) and written.GetSpacing() == (2, 3, 4) and written.GetOrigin() == (7, 8, 9)
    assert written.GetDirection() == (0, -1, 0, 1, 0, 0, 0, 0, -1)
    again = read_labels(tmp_path / f"a{ending}")
    assert again.grid.same_space(image.grid, 1e-9)
    np.testing.assert_array_equal(again.array, image.array)


def test_gipl_refuses_what_it_cannot_say(tmp_path):
    image = turned()
    with pytest.raises(UserError, match=r"a\.gipl: GIPL cannot say how the image is turned.*write \.nii\.gz"):
        write_labels(tmp_path / "a.gipl", image.array[0], image)
    assert not list(tmp_path.iterdir())


def test_compressed_where_the_format_can_be(tmp_path):
    labels = np.zeros((30, 40, 50), np.uint8)
    image = read_image(save(tmp_path / "a.mha", labels, (1, 2, 3)))
    for ending in (".nrrd", ".mha", ".gipl.gz"):
        write_labels(tmp_path / f"b{ending.upper()}", labels, image)
        assert (tmp_path / f"b{ending.upper()}").stat().st_size < 2000
    write_labels(tmp_path / "c.d.mhd", labels, image)
    assert {file.name for file in tmp_path.glob("c*")} == {"c.d.mhd", "c.d.zraw"}
    assert "ElementDataFile = c.d.zraw\n" in (tmp_path / "c.d.mhd").read_text()
    assert (tmp_path / "c.d.zraw").stat().st_size < 2000
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".gipl", ".gipl.gz"])
@pytest.mark.parametrize("compress", [False, True])
def test_truncated_files_are_named(tmp_path, ending, compress, capfd):
    noise = np.random.default_rng(0).integers(-999, 999, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / f"a{ending}", noise, compress=compress)
    content = path.read_bytes()
    for kept in (0, 2, 100, 300, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:kept])
        with pytest.raises(UserError, match=rf"a{ending}: cannot be read as .*may be incomplete; copy") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"something else" * 99)
    with pytest.raises(UserError, match="cannot be read as"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".gipl.gz"])
def test_a_changed_byte_in_compressed_data_is_found(tmp_path, ending, capfd):
    noise = np.random.default_rng(0).integers(-999, 999, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / f"a{ending}", noise, compress=True)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 8
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"a{ending}: cannot be read as"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_the_data_of_an_mhd(tmp_path, capfd):
    for compress, name in ((False, "a.raw"), (True, "a.zraw")):
        path = save(tmp_path / "a.mhd", VOLUME, compress=compress)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match=r"a\.mhd: cannot be read as MetaImage"):
            read_image(path)
        (tmp_path / name).unlink()
        with pytest.raises(
            UserError, match=rf"a\.mhd: its data file does not exist; expected \S+{name}; copy it there"
        ):
            read_image(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("directions", "problem"),
    [
        ("(1,0,0) (0.05,1,0) (0,0,1)", "the affine is sheared.*2.86 degrees"),
        ("(1,0,0) (1,0,0) (0,0,1)", "cannot be read as NRRD"),
        ("(1,0,0) (0,0,0) (0,0,1)", "cannot be read as NRRD"),
        ("(1,0,0) (0,nan,0) (0,0,1)", "cannot be read as NRRD"),
    ],
)
def test_directions_that_a_grid_cannot_say_are_refused(tmp_path, directions, problem):
    path = nrrd(tmp_path / "a.nrrd", f"{NRRD}space: left-posterior-superior\nspace directions: {directions}\n")
    with pytest.raises(UserError, match=f"a.nrrd: {problem}"):
        read_image(path)


def test_a_negative_spacing_is_a_flipped_axis(tmp_path):
    image = read_image(mha(tmp_path / "a.mha", META + "ElementSpacing = 1 -2 3\n"))
    assert image.grid.spacing == (3, 2, 1) and image.orientation.flips == (False, True, False)
    write_labels(tmp_path / "b.mha", image.array[0], image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "b.mha")).ravel(), np.arange(60))


def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path):
    for size, problem in (("5 4 3000000", "more than the file can hold"), ("100000 100000 100000", "too large")):
        with pytest.raises(UserError, match=problem):
            read_image(nrrd(tmp_path / "a.nrrd", NRRD.replace("5 4 3", size)))
        with pytest.raises(UserError, match=problem):
            read_image(mha(tmp_path / "a.mha", META.replace("5 4 3", size)))
    with pytest.raises(UserError, match="no valid shape"):
        read_image(mha(tmp_path / "a.mha", META.replace("5 4 3", "5 4 0")))


def test_complex_numbers_are_refused(tmp_path):
    sitk.WriteImage(sitk.Image([5, 4, 3], sitk.sitkComplexFloat32), tmp_path / "a.nrrd")
    with pytest.raises(UserError, match=r"a\.nrrd: has complex voxels"):
        read_image(tmp_path / "a.nrrd")


def test_voxels_in_other_files(tmp_path):
    (tmp_path / "a.bin").write_bytes(BYTES)
    image = read_image(nrrd(tmp_path / "a.nrrd", f"{NRRD}data file: a.bin\n", b""))
    assert image.array.ravel().tolist() == list(range(60))


REAL = Path(os.environ.get("DLSAM_TEST_DATA") or "none-given") / "quirks" / "nrrd"


@pytest.mark.skipif(not REAL.is_dir(), reason="DLSAM_TEST_DATA names no folder with such files")
def test_a_real_image_and_its_labels(tmp_path):
    image, labels = read_image(REAL / "brain1_image.nrrd"), read_labels(REAL / "brain1_label.nrrd")
    assert image.grid == labels.grid and image.grid.shape == (25, 256, 256)
    np.testing.assert_allclose(image.grid.spacing, (6.5, 0.78125, 0.78125))
    write_labels(tmp_path / "a.nrrd", labels.array[0], image)
    ours, theirs = sitk.ReadImage(tmp_path / "a.nrrd"), sitk.ReadImage(REAL / "brain1_label.nrrd")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), rtol=1e-12)
    assert ours.GetDirection() == theirs.GetDirection()
