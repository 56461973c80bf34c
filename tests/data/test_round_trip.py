"""Any volume in, its labels out on the very same grid: every format that is read with every one that is written.

SimpleITK writes the images and looks at the result, so that nothing here is checked by the code under test alone.
"""

from __future__ import annotations

import tempfile
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from delightsam_pipeline.data.formats import output_ending, read_case, write_labels
from delightsam_pipeline.data.masks import read_labels
from delightsam_pipeline.errors import UserError

WRITTEN = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".gipl", ".gipl.gz")
SINGLE = (".nii.gz", ".nii", ".gipl", ".gipl.gz")  # formats that keep their geometry in single precision
ORIENTATIONS = [
    np.eye(3)[list(order)] * np.array(signs)[:, None]
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def rotated(orientation: np.ndarray, angles: tuple[float, float, float]) -> np.ndarray:
    turn = sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix()
    return np.reshape(turn, (3, 3)) @ orientation


def volume(shape, spacing, origin, direction) -> sitk.Image:
    """Each voxel's value tells where it is stored."""
    image = sitk.GetImageFromArray(np.arange(np.prod(shape), dtype=np.int16).reshape(shape))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction.ravel())
    return image


volumes = st.builds(
    volume,
    st.tuples(*[st.integers(1, 6)] * 3),
    st.tuples(*[st.floats(0.2, 7)] * 3),
    st.tuples(*[st.floats(-300, 300)] * 3),
    st.builds(rotated, st.sampled_from(ORIENTATIONS), st.tuples(*[st.sampled_from([0.0, 0.3, -0.1])] * 3)),
)


def is_turned(image: sitk.Image) -> bool:
    return not np.allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-6)


def assert_same_place(found: sitk.Image, expected: sitk.Image, tolerance: float) -> None:
    assert found.GetSize() == expected.GetSize()
    np.testing.assert_allclose(found.GetSpacing(), expected.GetSpacing(), rtol=tolerance)
    np.testing.assert_allclose(found.GetDirection(), expected.GetDirection(), atol=tolerance)
    np.testing.assert_allclose(found.GetOrigin(), expected.GetOrigin(), atol=300 * tolerance)


def check_round_trip(path: Path, stored: sitk.Image, out: Path, tolerance: float) -> None:
    """Labels made of the image's own values come back to the voxels and the place that SimpleITK found in `path`."""
    image = read_case([path])
    labels = (image.array[0] % 251).astype(np.uint8)
    write_labels(out, labels, image)
    written = sitk.ReadImage(str(out))
    assert_same_place(written, stored, tolerance)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(stored) % 251)
    again = read_labels(out)
    np.testing.assert_array_equal(again.array[0], labels)
    assert again.grid.same_space(image.grid, 1e-3)


@pytest.mark.parametrize("ending", WRITTEN)
@settings(deadline=None, max_examples=20)
@given(volumes)
def test_in_and_out_in_one_format(ending, image):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"in{ending}"
        sitk.WriteImage(image, str(path))
        check_round_trip(path, sitk.ReadImage(str(path)), Path(folder) / f"out{output_ending(path)}", 1e-12)


@pytest.mark.parametrize("ending", WRITTEN)
@settings(deadline=None, max_examples=20)
@given(volumes, st.sampled_from(WRITTEN))
def test_from_one_format_into_another(ending, image, other):
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / f"in{ending}", Path(folder) / f"out{other}"
        sitk.WriteImage(image, str(path))
        stored = sitk.ReadImage(str(path))
        if other.startswith(".gipl") and is_turned(stored):
            with pytest.raises(UserError, match="GIPL cannot say"):
                check_round_trip(path, stored, out, 0)
        else:
            check_round_trip(path, stored, out, 2e-6 if {ending, other} & {*SINGLE} else 1e-12)


@settings(deadline=None, max_examples=30)
@given(volumes, st.randoms())
def test_from_dicom_into_nifti(write_series, image, random):
    with tempfile.TemporaryDirectory() as folder:
        series = Path(folder) / "case"
        shape = np.array(image.GetSize()) + 1  # of one slice no file says the distance, and ITK stacks lines wrongly
        array = np.arange(shape.prod(), dtype=np.int16).reshape(shape)
        axes = np.reshape(image.GetDirection(), (3, 3)).T
        step = np.cross(axes[0], axes[1]) * image.GetSpacing()[2]
        elements = {
            "00280030": "{1:.12g}\\{0:.12g}".format(*image.GetSpacing()),
            "00200037": "\\".join(f"{v:.12g}" for v in axes[:2].ravel()),
        }
        order = random.sample(range(len(array)), len(array))
        positions = [np.array(image.GetOrigin()) + number * step for number in order]
        write_series(series, array[order], positions, elements)
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series))
        out = Path(folder) / f"out{output_ending(series)}"
        check_round_trip(series, sitk.ReadImage(names), out, 2e-6)
