"""Files of every format through preparation, a network that knows the answer, and back into a file.

SimpleITK and Pillow write the images and read the masks, so that nothing is checked by the code under test alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from delightsam_pipeline.data.formats import output_ending, read_case, write_labels
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.predictor import Predictor
from delightsam_pipeline.plans.fingerprint import slicing_axis
from delightsam_pipeline.preprocessing.preparation import Preparation

PAIRS = [
    *((ending, ending) for ending in (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".gipl", ".gipl.gz")),
    *((".nii.gz", ".nrrd"), (".nrrd", ".mha"), (".mha", ".nii.gz"), (".gipl", ".nii.gz")),
]


def ellipsoid(shape, centre) -> np.ndarray:
    """Axes of 0.35 of the sides, in the middle or up to a tenth beside it."""
    grids = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    return sum(((g - 0.5 - c) / 0.35) ** 2 for g, c in zip(grids, centre, strict=True)) <= 1


@st.composite
def volumes(draw, dark: int, bright: int):
    """An ellipsoid in a volume of any anisotropic size, spacing, place and orientation, axes flipped and exchanged."""
    shape = draw(st.tuples(*[st.integers(30, 60)] * 3))
    mask = ellipsoid(shape, draw(st.tuples(*[st.floats(-0.1, 0.1)] * 3)))
    image = sitk.GetImageFromArray(np.where(mask, bright, dark).astype(np.int16))
    image.SetSpacing(draw(st.tuples(*[st.floats(0.4, 3)] * 3)))
    image.SetOrigin(draw(st.tuples(*[st.floats(-200, 200)] * 3)))
    order, signs = draw(st.permutations(range(3))), draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    image.SetDirection((np.eye(3)[list(order)] * signs).ravel())
    return image


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def planned(make_plan, image, factor: float, **changes):
    """A plan that shows a slice at `factor` input pixels a pixel."""
    axis = slicing_axis(image.grid.spacing, image.grid.shape)
    spacing = tuple(s / factor for a, s in enumerate(image.grid.spacing) if a != axis)
    return make_plan(slicing_axis=axis, spacing=spacing, patch_size=(96, 128), **changes)


def check(make_plan, threshold, bands, files: tuple[Path, Path], stored: sitk.Image, factor: float) -> None:
    source, out = files
    change, dark, bright = bands
    truth = sitk.GetArrayFromImage(stored) > (dark + bright) / 2
    image = read_case([source])

    # No resampling: labels are prepared and written without a change.
    labels = (image.array[0] > (dark + bright) / 2).astype(np.uint8)
    preparation = Preparation(planned(make_plan, image, 1.0))
    back = preparation.way_back(image.grid)
    write_labels(out, back.volume(preparation.labels(labels, back)), image)
    written = sitk.ReadImage(str(out))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), truth)

    # Resampled, through a network and back.
    plan = planned(make_plan, image, factor, **change)
    Predictor(threshold(), {"x": plan}, choose_device("cpu")).predict_files((source,), out)
    written = sitk.ReadImage(str(out))
    assert dice(sitk.GetArrayFromImage(written) > 0, truth) > 0.98
    assert written.GetSize() == stored.GetSize()
    np.testing.assert_allclose(written.GetSpacing(), stored.GetSpacing(), rtol=2e-6)
    np.testing.assert_allclose(written.GetOrigin(), stored.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(written.GetDirection(), stored.GetDirection(), atol=2e-6)


@pytest.mark.parametrize(("ending", "written_as"), PAIRS)
@settings(deadline=None, max_examples=4)
@given(data=st.data(), factor=st.floats(1.3, 3))
def test_volumes(make_plan, threshold, bands, ending, written_as, data, factor):
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / f"in{ending}", Path(folder) / f"out{written_as}"
        sitk.WriteImage(data.draw(volumes(round(bands[1]), round(bands[2]))), str(files[0]))
        check(make_plan, threshold, bands, files, sitk.ReadImage(str(files[0])), factor)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".gif", ".tif", ".jpg"])
@settings(deadline=None, max_examples=4)
@given(size=st.tuples(*[st.integers(40, 200)] * 2), factor=st.floats(0.9, 3))
def test_pictures(make_plan, threshold, bands, ending, size, factor):
    change, dark, bright = bands
    truth = ellipsoid(size, (0.05, -0.1))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"in{ending}"
        Picture.fromarray(np.where(truth, round(bright), round(dark)).astype(np.uint8)).save(file)
        out = Path(folder) / f"out{output_ending(file)}"
        plan = planned(make_plan, read_case([file]), factor, physical=False, **change)
        Predictor(threshold(), {"x": plan}, choose_device("cpu")).predict_files((file,), out)
        with Picture.open(out) as written:
            assert dice(np.asarray(written) > 0, truth) > 0.98 and written.size == size[::-1]
