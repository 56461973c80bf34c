"""Fingerprints with numbers of one's own, and raw datasets of tiny files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data.dataset import Dataset, load_dataset
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.plans.fingerprint import CaseFacts, Fingerprint
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.plans.planner import make_plan
from delightsam_pipeline.plans.survival import CELLS

NUMBERS = {
    "mean": 50.0,
    "std": 20.0,
    "min": -1000.0,
    "max": 900.0,
    "median": 48.0,
    "percentile_00_5": -60.0,
    "percentile_99_5": 210.0,
}


def _curve(largest: float) -> list[float]:
    """The survival of an object that is whole on cells up to `largest` and fades quickly on larger ones."""
    return [1.0 if cell <= largest else (largest / cell) ** 2 for cell in CELLS]


def _facts(number: int, shape, spacing, largest: dict[str, float], nonzero_share: float) -> CaseFacts:
    return CaseFacts(
        name=f"case_{number}",
        shape=shape,
        spacing=spacing,
        physical=shape[0] > 1,
        orientation="LPS",
        dtype="uint8",
        nonzero_box=shape,
        nonzero_share=nonzero_share,
        intensities=[],
        voxels=dict.fromkeys(largest, 100),
        volume=dict.fromkeys(largest, 100.0),
        components=dict.fromkeys(largest, 1),
        component_size=dict.fromkeys(largest, 100.0),
        largest_component=dict.fromkeys(largest, 100),
        position=dict.fromkeys(largest, (0.5, 0.5, 0.5)),
        survival={name: _curve(cell) for name, cell in largest.items()},
        not_annotated=[],
        image_sha256=[],
        label_sha256="",
        notes=[],
    )


@pytest.fixture(scope="session")
def make_print():
    """A function that makes a fingerprint.

    shapes, spacings : one for every case, or a single one. largest : per class, the largest cell it survives.
    """

    def make(
        shapes=(1, 256, 256),
        spacings=(1.0, 1.0, 1.0),
        largest=None,
        channels=("ultrasound",),
        modality="ultrasound",
        physical=None,
        nonzero_share=1.0,
        dtype="uint8",
        intensities=NUMBERS,
        cases=3,
    ) -> Fingerprint:
        shapes = shapes if isinstance(shapes, list) else [shapes] * cases
        spacings = spacings if isinstance(spacings, list) else [spacings] * len(shapes)
        largest = largest or {"lesion": 8.0}
        return Fingerprint(
            dataset="Dataset001_Test",
            inputs="0123456789abcdef",
            physical=shapes[0][0] > 1 if physical is None else physical,
            dtype=dtype,
            channel_names=list(channels),
            modality=modality,
            modality_confidence=1.0,
            modality_evidence=f"given as '{modality}'",
            intensities=[intensities] * len(channels),
            cases=[
                _facts(n, shape, spacing, largest, nonzero_share)
                for n, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True))
            ],
        )

    return make


@pytest.fixture(scope="session")
def make_labels():
    """A function that makes labels with these class names, numbered from 1."""

    def make(*names: str) -> Labels:
        entries = {"background": 0, **{name: value for value, name in enumerate(names, start=1)}}
        return Labels.parse(entries, Path("dataset.json"))

    return make


@pytest.fixture(scope="session")
def make_dataset():
    """A function that writes a raw dataset: cases {name: (images, labels)}, arrays [z, y, x], [H, W] or [H, W, 3]."""

    def make(folder: Path, cases, spacing=None, channels=("ultrasound",), labels=("lesion",), **entries) -> Dataset:
        ending = ".png" if spacing is None else ".nii.gz"
        for name, (images, label) in cases.items():
            images = images if isinstance(images, list) else [images]
            for number, image in enumerate(images):
                _write(folder / "imagesTr" / f"{name}_{number:04d}{ending}", image, spacing)
            _write(folder / "labelsTr" / f"{name}{ending}", label, spacing)
        description = {
            "channel_names": {str(number): name for number, name in enumerate(channels)},
            "labels": {"background": 0, **{name: value for value, name in enumerate(labels, start=1)}},
            "numTraining": len(cases),
            "file_ending": ending,
        }
        (folder / "dataset.json").write_text(json.dumps(description | entries))
        return load_dataset(folder)

    return make


@pytest.fixture(scope="session")
def plan_for(make_print, make_labels):
    """A function: the plan of a fingerprint with these changes."""

    def make(*, memory_bytes: float = 8e9, labels: tuple[str, ...] = ("lesion",), **changes) -> Plan:
        said = {name: changes.pop(name) for name in ("max_size", "overrides", "plans_from") if name in changes}
        return make_plan(make_print(**changes), make_labels(*labels), ".png", memory_bytes, **said)

    return make


def _write(path: Path, array: np.ndarray, spacing) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if spacing is None:
        PIL.Image.fromarray(array).save(path)
    else:
        # x and y run to the left and the back here, to the right and the front in NIfTI
        affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
        nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)
