"""NIfTI files: geometry against nibabel and SimpleITK, and the exact way back."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delightsam_pipeline.data import nifti
from delightsam_pipeline.data.image import Grid, Image, Orientation

ORIENTATIONS = [
    np.eye(3)[list(order)] * np.array(signs)[:, None]
    for order in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    for signs in np.array(np.meshgrid([1, -1], [1, -1], [1, -1])).T.reshape(-1, 3)
]


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None, **header) -> Path:
    image = nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


def volume(shape=(5, 4, 3)) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        i, j = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[i, i], turn[j, j], turn[i, j], turn[j, i] = c, c, -s, s
        matrix = matrix @ turn
    return matrix


affines = st.builds(
    lambda orientation, spacing, origin, angles: nibabel.affines.from_matvec(
        rotation(angles) @ orientation * np.array(spacing), origin
    ),
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.floats(0.2, 7)] * 3),
    st.tuples(*[st.floats(-300, 300)] * 3),
    st.tuples(*[st.sampled_from([0.0, 0.3, -0.2])] * 3),
)
shapes = st.tuples(*[st.integers(1, 5)] * 3)


@settings(deadline=None, max_examples=40)
@given(affines, shapes, st.integers(0, 2**31), st.sampled_from([".nii", ".nii.gz"]), st.sampled_from([2, 300, 70000]))
def test_labels_come_back_to_the_voxels_and_header_of_the_file(affine, shape, seed, ending, highest):
    rng = np.random.default_rng(seed)
    original = rng.integers(0, highest + 1, shape).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"in{ending}"
        stored = nibabel.Nifti1Image(original, affine)
        stored.set_sform(affine, 2)
        stored.set_qform(affine, 1)
        stored.header.set_xyzt_units("mm", "sec")
        nibabel.save(stored, source)
        image = nifti.read(source)
        nifti.write_labels(Path(folder) / f"out{ending}", image.array[0], image)
        before, after = nibabel.load(source), nibabel.load(Path(folder) / f"out{ending}")
        voxels = np.asanyarray(after.dataobj)
    assert after.shape == before.shape
    np.testing.assert_array_equal(voxels, original)
    np.testing.assert_array_equal(after.affine, before.affine)
    for key in ("pixdim", "dim", "qform_code", "sform_code", "xyzt_units", "quatern_b", "qoffset_x", "srow_x"):
        np.testing.assert_array_equal(after.header[key], before.header[key])
    assert voxels.dtype == (np.uint8 if original.max() < 256 else np.uint16 if original.max() < 65536 else np.int32)


@settings(deadline=None, max_examples=40)
@given(affines, shapes, st.integers(0, 2**31))
def test_world_positions_agree_with_nibabel_and_simpleitk(affine, shape, seed):
    sitk = pytest.importorskip("SimpleITK")
    data = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)  # each value says where its voxel was
    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder) / "a.nii", data, affine, qform_code=1, sform_code=1)
        image = nifti.read(path)
        outside = sitk.ReadImage(str(path))
        stored = nibabel.load(path).affine
    z, y, x = (int(np.random.default_rng(seed).integers(n)) for n in image.grid.shape)
    i, j, k = (int(n) for n in np.unravel_index(image.array[0, z, y, x], shape))
    ours = (image.grid.affine() @ [z, y, x, 1])[:3]
    ras = (stored @ [i, j, k, 1])[:3]
    np.testing.assert_allclose(ours, ras * [-1, -1, 1], atol=1e-3)
    np.testing.assert_allclose(ours, outside.TransformIndexToPhysicalPoint((i, j, k)), atol=1e-2)
    direction = np.asarray(image.grid.direction)
    assert all(direction[row, column] > 0.5 for column, row in enumerate((2, 1, 0)))  # z to S, y to P, x to L


def test_the_48_orientations_of_one_volume_all_become_the_same_array(tmp_path):
    assert len({orientation.tobytes() for orientation in ORIENTATIONS}) == 48
    original = nibabel.Nifti1Image(volume(), np.diag([2.0, 3, 4, 1]))
    expected = nifti.read(save(tmp_path / "a.nii", volume(), np.diag([2.0, 3, 4, 1])))
    for matrix in ORIENTATIONS:
        turned = original.as_reoriented(nibabel.io_orientation(nibabel.affines.from_matvec(matrix)))
        nibabel.save(turned, tmp_path / "b.nii")
        image = nifti.read(tmp_path / "b.nii")
        np.testing.assert_array_equal(image.array, expected.array)
        assert image.grid.same_space(expected.grid)
    assert expected.grid.spacing == (4, 3, 2)


def test_types_stay_unless_scaled(tmp_path):
    assert nifti.read(save(tmp_path / "a.nii", volume())).array.dtype == np.int16
    big_endian = nibabel.Nifti1Image(volume(), np.eye(4), nibabel.Nifti1Header(endianness=">"), dtype=np.int16)
    nibabel.save(big_endian, tmp_path / "b.nii")
    array = nifti.read(tmp_path / "b.nii").array
    assert array.dtype == np.int16 and array.dtype.isnative and array.max() == 59
    assert nifti.read(save(tmp_path / "c.nii", volume() / 7.0)).array.dtype == np.float32
    scaled = nibabel.Nifti1Image(volume(), np.eye(4))
    scaled.header.set_slope_inter(2, -1024)
    nibabel.save(scaled, tmp_path / "d.nii")
    image = nifti.read(tmp_path / "d.nii")
    assert image.array.dtype == np.float32
    np.testing.assert_array_equal(np.sort(image.array.ravel()), 2 * np.arange(60) - 1024)


def test_labels_of_a_scaled_image_are_not_scaled(tmp_path):
    scaled = nibabel.Nifti1Image(volume(), np.eye(4))
    scaled.header.set_slope_inter(2, -1024)
    scaled.header["cal_max"] = 900
    nibabel.save(scaled, tmp_path / "a.nii.gz")
    image = nifti.read(tmp_path / "a.nii.gz")
    nifti.write_labels(tmp_path / "b.nii.gz", np.ones(image.grid.shape, np.uint8), image)
    written = nibabel.load(tmp_path / "b.nii.gz")
    assert np.unique(written.get_fdata()).tolist() == [1]
    assert written.header["cal_max"] == 0
    content = gzip.decompress((tmp_path / "b.nii.gz").read_bytes())
    assert np.frombuffer(content, "<f4", 2, 112).tolist() == [1, 0]  # slope and intercept as they are in the file


def test_extensions_of_the_image_do_not_reach_the_labels(tmp_path):
    stored = nibabel.Nifti1Image(volume(), np.eye(4))
    stored.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nibabel.save(stored, tmp_path / "a.nii")
    image = nifti.read(tmp_path / "a.nii")
    nifti.write_labels(tmp_path / "b.nii", image.array[0], image)
    assert b"Jane" in (tmp_path / "a.nii").read_bytes()
    assert b"Jane" not in (tmp_path / "b.nii").read_bytes()
    assert b"Jane" in image.header.extensions[0].get_content()


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3, 1)])
def test_shapes_of_one_channel_come_back(tmp_path, shape):
    image = nifti.read(save(tmp_path / "a.nii", volume(shape)))
    assert image.array.shape == (1, shape[2] if len(shape) > 2 else 1, 4, 5)
    nifti.write_labels(tmp_path / "b.nii", image.array[0], image)
    written = nibabel.load(tmp_path / "b.nii")
    assert written.shape == shape
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), volume(shape))


@pytest.mark.parametrize("shape", [(5, 4, 3, 2), (5, 4, 3, 1, 2)])
def test_last_axis_is_channels_and_labels_are_spatial(tmp_path, shape):
    data = volume(shape)
    image = nifti.read(save(tmp_path / "a.nii", data, intent_code=1007))
    assert image.array.shape == (2, 3, 4, 5)
    per_channel = data.reshape(5, 4, 3, 2)
    for channel in range(2):
        assert set(image.array[channel].ravel()) == set(per_channel[..., channel].ravel())
    nifti.write_labels(tmp_path / "b.nii", image.array[1], image)
    written = nibabel.load(tmp_path / "b.nii")
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), per_channel[..., 1])
    assert written.header["intent_code"] == 0  # a label map is no vector image
    np.testing.assert_array_equal(written.affine, np.eye(4))


def test_labels_for_an_image_that_was_no_nifti(tmp_path):
    file_grid = Grid((3, 4, 5), (4, 3, 2), (7, 8, 9), ((0, -1, 0), (0, 0, 1), (-1, 0, 0)))
    orientation = Orientation.to_canonical(file_grid)
    grid = orientation.apply_to_grid(file_grid)
    labels = np.arange(60).reshape(grid.shape)
    nifti.write_labels(tmp_path / "a.nii.gz", labels, Image(labels[None], grid, orientation))
    assert nibabel.load(tmp_path / "a.nii.gz").shape == (5, 4, 3)  # the file's axes, not the canonical ones
    again = nifti.read(tmp_path / "a.nii.gz")
    assert again.grid.same_space(grid, 1e-4)
    np.testing.assert_array_equal(again.array[0], labels)


def test_units_other_than_mm(tmp_path):
    stored = nibabel.Nifti1Image(volume(), np.diag([500.0, 500, 2000, 1]))
    stored.header.set_xyzt_units("micron")
    nibabel.save(stored, tmp_path / "a.nii")
    image = nifti.read(tmp_path / "a.nii")
    np.testing.assert_allclose(image.grid.spacing, (2, 0.5, 0.5))
    nifti.write_labels(tmp_path / "b.nii", image.array[0], image)
    assert nibabel.load(tmp_path / "b.nii").header.get_xyzt_units()[0] == "micron"


def test_nifti_2(tmp_path):
    nibabel.save(nibabel.Nifti2Image(volume(), np.diag([2.0, 2, 2, 1])), tmp_path / "a.nii.gz")
    image = nifti.read(tmp_path / "a.nii.gz")
    nifti.write_labels(tmp_path / "b.nii.gz", image.array[0], image)
    written = nibabel.load(tmp_path / "b.nii.gz")
    assert isinstance(written, nibabel.Nifti2Image)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), volume())


def test_shear_below_the_tolerance_is_read(tmp_path):
    affine = np.eye(4)
    affine[0, 1] = 5e-4
    assert nifti.read(save(tmp_path / "a.nii", volume(), affine)).array.shape == (1, 3, 4, 5)


def test_a_flat_picture_without_thickness(tmp_path):
    affine = np.diag([2.0, 2, 0, 1])
    stored = nibabel.Nifti1Image(volume((5, 4)), np.diag([2.0, 2, 1, 1]))
    stored.header.set_sform(affine, 1)
    stored.header["qform_code"] = 0
    with open(tmp_path / "a.nii", "wb") as file:
        file.write(stored.header.binaryblock + b"\0" * 4 + volume((5, 4)).tobytes("F"))
    header = nibabel.Nifti1Header((tmp_path / "a.nii").read_bytes()[:348], check=False)
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "a.nii").write_bytes(header.binaryblock + b"\0" * 4 + volume((5, 4)).tobytes("F"))
    grid = nifti.read(tmp_path / "a.nii").grid
    assert grid.shape == (1, 4, 5) and grid.spacing == (1, 2, 2)


def test_labels_on_another_grid_are_a_bug(tmp_path):
    image = nifti.read(save(tmp_path / "a.nii", volume()))
    with pytest.raises(ValueError, match="grid"):
        nifti.write_labels(tmp_path / "b.nii", image.array[0, :, :, ::2], image)
    assert not (tmp_path / "b.nii").exists()
