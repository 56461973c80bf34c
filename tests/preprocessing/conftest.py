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


def write_array(path: Path, array: np.ndarray, spacing) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if spacing is None:
        PIL.Image.fromarray(array).save(path)
    else:
        # x and y run to the left and the back here, to the right and the front in NIfTI
        affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
        nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)
