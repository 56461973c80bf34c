"""Raw datasets of tiny files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data.dataset import Dataset, load_dataset


@pytest.fixture(scope="session")
def make_dataset():
    """A function that writes a raw dataset: cases {name: (image, label)}, both [H, W] for pictures or [z, y, x]."""

    def make(folder: Path, cases, spacing=None, **entries) -> Dataset:
        ending = ".png" if spacing is None else ".nii.gz"
        for name, (image, label) in cases.items():
            write_array(folder / "imagesTr" / f"{name}_0000{ending}", image, spacing)
            write_array(folder / "labelsTr" / f"{name}{ending}", label, spacing)
        description = {
            "channel_names": {"0": "ultrasound" if spacing is None else "T1"},
            "labels": {"background": 0, "lesion": 1, "vessel": 2},
            "numTraining": len(cases),
            "file_ending": ending,
        }
        (folder / "dataset.json").write_text(json.dumps(description | entries))
        return load_dataset(folder)

    return make


@pytest.fixture(scope="session")
def picture():
    """A function from a number to a picture of noise with its label map, uint8 [40, 48] both."""

    def make(number: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(number)
        label = np.zeros((40, 48), np.uint8)
        label[4 + number : 30, 5:40] = 1
        label[6:9, 7 : 12 + number] = 2
        return generator.integers(0, 255, label.shape, np.uint8), label

    return make


@pytest.fixture
def raw(tmp_path, make_dataset, picture):
    """Six pictures, a to f."""
    cases = {name: picture(number) for number, name in enumerate("abcdef")}
    return make_dataset(tmp_path / "raw" / "Dataset001_Pictures", cases)


def write_array(path: Path, array: np.ndarray, spacing) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if spacing is None:
        PIL.Image.fromarray(array).save(path)
    else:
        # x and y run to the left and the back here, to the right and the front in NIfTI
        affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
        nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)
