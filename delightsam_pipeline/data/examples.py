"""Eight small generated datasets in nnU-Net v2's raw format, each of another modality, for demo and tests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delightsam_pipeline.data.phantoms import dermoscopy, endoscopy, fundus, microscopy, ultrasound, volumes, xray
from delightsam_pipeline.data.phantoms.shapes import Phantom
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import disk_errors, make_folder, read_json, write_json, writing

logger = logging.getLogger(__name__)

_DRAWING_VERSION = 1  # raise it when the drawings change, so that older folders are made anew
_TEST_CASES = 6


@dataclass(frozen=True)
class _Example:
    """What one dataset is made of.

    number : seeds its cases, with the seed and their own number.
    train : how many training cases by default.
    stored : the directions that the axes x, y, z of its volumes run along in the file.
    """

    number: int
    draw: Callable[[np.random.Generator], Phantom]
    prefix: str
    modality: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    train: int = 40
    ending: str = ".png"
    stored: str = "LPS"


_RGB = ("R", "G", "B")
_EXAMPLES = {
    "Dataset901_ExampleCT": _Example(
        901, volumes.ct, "ct", "CT", ("CT",), ("liver", "kidney"), train=16, ending=".nii.gz"
    ),
    "Dataset902_ExampleMRI": _Example(
        902, volumes.mri, "mri", "MRI", ("T1",), ("ventricle", "lesion"), train=16, ending=".nii.gz", stored="RAS"
    ),
    "Dataset903_ExampleUltrasound": _Example(903, ultrasound.draw, "us", "ultrasound", ("ultrasound",), ("lesion",)),
    "Dataset904_ExamplePhoto": _Example(904, dermoscopy.draw, "photo", "dermoscopy", _RGB, ("lesion",)),
    "Dataset905_ExampleXray": _Example(905, xray.draw, "xray", "X-ray", ("X-ray",), ("right_lung", "left_lung")),
    "Dataset906_ExampleFundus": _Example(906, fundus.draw, "fundus", "fundus", _RGB, ("vessel",)),
    "Dataset907_ExampleMicroscopy": _Example(907, microscopy.draw, "cells", "microscopy", _RGB, ("nucleus",)),
    "Dataset908_ExampleEndoscopy": _Example(908, endoscopy.draw, "endo", "endoscopy", _RGB, ("polyp",)),
}
EXAMPLE_DATASETS = tuple(_EXAMPLES)
DEMO_DATASETS = EXAMPLE_DATASETS[:4]  # what the demo learns in a few minutes on two cores


def make_examples(
    root: Path,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    datasets: Sequence[str] = EXAMPLE_DATASETS,
) -> list[Path]:
    """Write generated datasets to root/DatasetXXX_Name/{imagesTr,labelsTr,imagesTs,labelsTs,dataset.json}.

    A case depends only on seed, dataset and its own number: more cases leave the others as they were. A dataset that
    is complete and was made with the same arguments is left alone.

    Parameters
    ----------
    train, test : cases for training and for testing; by default 16 volumes or 40 pictures, and 6.
    seed : not negative.
    datasets : names out of EXAMPLE_DATASETS.

    Returns the folders in the order of `datasets`.
    Raises UserError for an unknown name, a count or seed out of range, or a folder that holds something else.
    """
    for name in datasets:
        if name not in _EXAMPLES:
            raise UserError("no such example dataset", expected=", ".join(EXAMPLE_DATASETS), found=name)
    for what, value, least in (("training cases", train, 1), ("test cases", test, 0), ("the seed", seed, 0)):
        if value is not None and value < least:
            raise UserError(f"{what} out of range", expected=f"{least} or more", found=value)
    folders = [Path(root) / name for name in datasets]
    for folder in folders:
        example = _EXAMPLES[folder.name]
        counts = {
            "Tr": example.train if train is None else train,
            "Ts": _TEST_CASES if test is None else test,
        }
        _make_dataset(folder, example, counts, seed)
    return folders


def _make_dataset(folder: Path, example: _Example, counts: dict[str, int], seed: int) -> None:
    made_with = {"version": _DRAWING_VERSION, "train": counts["Tr"], "test": counts["Ts"], "seed": seed}
    cases = [(part, number) for part in counts for number in range(counts[part])]
    description = folder / "dataset.json"
    if description.exists():
        found = read_json(description)
        if not isinstance(found, dict) or "made_with" not in found:
            raise UserError("holds a dataset that was not generated here", file=folder, fix="choose another root")
        if found["made_with"] == made_with and all(f.exists() for c in cases for f in _files(folder, example, *c)):
            logger.info("%s is complete", folder)
            return
    _clear(folder, example)
    logger.info("drawing %d cases to %s", len(cases), folder)
    for part, number in cases:
        phantom = example.draw(np.random.default_rng((seed, example.number, int(part == "Ts"), number)))
        image_file, labels_file = _files(folder, example, part, number)
        for file, array in ((image_file, phantom.image), (labels_file, phantom.labels)):
            if phantom.spacing is None:
                _write_picture(file, array)
            else:
                _write_volume(file, array, phantom.spacing, example.stored)
    write_json(description, _description(example, counts, made_with))


def _files(folder: Path, example: _Example, part: str, number: int) -> tuple[Path, Path]:
    """Image and label file of a case; part is Tr or Ts."""
    case = f"{example.prefix}_{'train' if part == 'Tr' else 'test'}_{number:03d}"
    image = folder / f"images{part}" / f"{case}_0000{example.ending}"
    return image, folder / f"labels{part}" / f"{case}{example.ending}"


def _clear(folder: Path, example: _Example) -> None:
    """Remove what an earlier run generated, dataset.json first, so that no half-made dataset looks whole."""
    with disk_errors(folder):
        (folder / "dataset.json").unlink(missing_ok=True)
        for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
            for file in make_folder(folder / part).glob(f"{example.prefix}_t*{example.ending}"):
                file.unlink()


def _description(example: _Example, counts: dict[str, int], made_with: dict[str, int]) -> dict[str, Any]:
    return {
        "channel_names": {str(number): name for number, name in enumerate(example.channels)},
        "labels": {"background": 0, **{name: value for value, name in enumerate(example.labels, start=1)}},
        "numTraining": counts["Tr"],
        "file_ending": example.ending,
        "modality": example.modality,
        "description": "generated",
        "made_with": made_with,
    }


def _write_picture(file: Path, array: np.ndarray) -> None:
    from PIL import Image

    with writing(file) as temporary:
        Image.fromarray(array).save(temporary)


def _write_volume(file: Path, array: np.ndarray, spacing: tuple[float, float, float], stored: str) -> None:
    """Write [z, y, x] drawn along S, P, L with its axes as x, y, z along `stored`, its middle at world 0."""
    import nibabel

    array = array.transpose(2, 1, 0)
    flips = [axis for axis in range(3) if stored[axis] != "LPS"[axis]]
    step = np.array([-1.0, -1.0, 1.0]) * spacing[::-1]  # NIfTI's world runs to the right, the front and up
    step[flips] *= -1
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = -step * (np.array(array.shape) - 1) / 2
    volume = nibabel.Nifti1Image(np.flip(array, flips), affine)
    volume.set_qform(affine, 1)
    volume.set_sform(affine, 1)
    volume.header.set_xyzt_units("mm")
    with writing(file) as temporary:
        nibabel.save(volume, temporary)
