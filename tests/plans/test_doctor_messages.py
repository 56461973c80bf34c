"""Every message of the doctor stands in its documentation and is made by a test from a real file of that fault.

Those of the doctor itself are made in the files beside this one, those of reading in tests/data: TESTED says where.
"""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

import delightsam_pipeline
from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.data.formats import read_image
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.fingerprint import fingerprint

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reference" / "data-doctor.md"
PACKAGE = Path(delightsam_pipeline.__file__).parent
MODULES = [
    *(f"data/{name}" for name in ("checks", "fitting", "formats", "masks", "annotations", "geometry", "damage")),
    *(f"data/{name}" for name in ("nifti", "itk", "itk_files", "tiff", "tiff_samples", "picture", "png", "bmp")),
    *(f"data/{name}" for name in ("dicom", "dicom_files", "dicom_header")),
    *(f"plans/{name}" for name in ("doctor", "duplicates", "outliers", "fingerprint")),
]
# messages of these modules that no training case can cause: of writing, of dataset.json, of an ending
ELSEWHERE = {
    "masks are not written in this format",
    "label does not fit into a BMP",
    "GIPL cannot say how the image is turned, so that the labels would not lie on it",
    "is not in a format that can be read",
    "its voxels lie in several files",
    "is not a label map: its channels differ",
    "case ... has no label map",
}
TESTED = {
    "cannot be read as ... (...)": "plans/test_doctor.py::cut_off",
    "cannot be read (no permission)": "plans/test_doctor_messages.py::test_a_file_that_may_not_be_read",
    "is not a file": "data/test_formats.py::test_missing_files",
    "does not exist": "data/test_formats.py::test_missing_files",
    "is too large, or its header is damaged": "data/test_itk.py::test_absurd_sizes_are_refused_before_memory_is_taken",
    "the header has no valid shape": "data/test_itk.py::test_absurd_sizes_are_refused_before_memory_is_taken",
    "its data file does not exist": "data/test_itk.py::test_the_data_of_an_mhd",
    "is too large to be opened safely": "data/test_picture.py::test_a_decompression_bomb_is_refused",
    "is a moving picture": "data/test_masks.py::test_an_animation_is_no_mask",
    "has complex or colour voxels": "data/test_nifti_damage.py::test_complex_and_colour_voxels_are_refused",
    "has complex voxels": "data/test_itk.py::test_complex_numbers_are_refused",
    "has too many axes": "data/test_nifti_damage.py::test_too_many_axes_are_refused",
    "its pages differ in size or kind": "data/test_tiff_damage.py::test_pages_that_make_no_volume_are_refused",
    "its pages mix slices and channels": (
        "data/test_tiff_damage.py::test_stacks_that_mix_channels_and_slices_are_refused"
    ),
    "lists too few pages": ("data/test_tiff_damage.py::test_a_stack_with_one_directory_for_all_its_slices_is_refused"),
    "has ... pages but no spacing": "data/test_tiff.py::test_a_volume_without_spacing_is_refused",
    "'spacing' is wrong": "data/test_tiff.py::test_a_wrong_spacing_is_refused",
    "is a TIFF that cannot be read: ...": "data/test_tiff_damage.py::test_what_cannot_be_read_is_named",
    "needs the package imagecodecs": "data/test_tiff.py::test_packings_are_read_exactly_or_refused",
    "does not hold one DICOM series": ("data/test_dicom.py::test_files_that_belong_to_something_else_are_refused"),
    "does not say where its slices lie": "data/test_dicom_frames.py::test_frames_without_enough_positions",
    "its slices have different ...": "data/test_dicom_frames.py::test_frames_along_several_axes",
    "holds several files of many slices each": "data/test_dicom_frames.py::test_several_files_of_many_slices",
    "several slices lie at the same place": "data/test_dicom.py::test_slices_that_make_no_even_volume_are_refused",
    "its slices are not evenly spaced": "data/test_dicom.py::test_slices_that_make_no_even_volume_are_refused",
    "its slices are shifted against each other (gantry tilt)": (
        "data/test_dicom.py::test_slices_that_make_no_even_volume_are_refused"
    ),
    "the affine has NaN or infinite values": (
        "data/test_nifti_damage.py::test_affines_that_a_grid_cannot_say_are_refused"
    ),
    "the affine is singular: an axis has spacing 0": (
        "data/test_nifti_damage.py::test_affines_that_a_grid_cannot_say_are_refused"
    ),
    "the affine is singular: two axes run along the same line": (
        "data/test_nifti_damage.py::test_affines_that_a_grid_cannot_say_are_refused"
    ),
    "the affine is sheared": "data/test_nifti_damage.py::test_affines_that_a_grid_cannot_say_are_refused",
    "does not lie on the same grid as ...": "plans/test_doctor_geometry.py::test_channels_on_different_grids",
    "does not overlap with ... in space": (
        "plans/test_doctor_geometry.py::test_files_that_do_not_overlap_are_always_refused"
    ),
    "has nothing within ... after resampling": (
        "plans/test_doctor_geometry.py::test_a_mask_whose_objects_lie_outside_is_refused"
    ),
    "may be flipped against ...: one of them is a picture, the other has turned axes": (
        "data/test_fitting.py::test_a_picture_for_an_image_with_turned_axes_is_refused"
    ),
    "lies on another grid than its image and was resampled to its image's grid by --fix-geometry": (
        "plans/test_doctor_geometry.py::test_each_mended_mask_is_told"
    ),
    "has an implausible spacing": "plans/test_doctor.py::micrometres",
    "has a spacing of 1 x 1 x 1 mm": "plans/test_doctor_across.py::test_a_spacing_that_was_lost",
    "the number of channels differs from dataset.json": "plans/test_doctor.py::wrong_channels",
    "has values that are NaN or infinite": "plans/test_doctor.py::nan",
    "is constant: every voxel has one value": "plans/test_doctor.py::constant_image",
    "one of its channels is constant": "plans/test_doctor.py::test_a_constant_channel",
    "is too large to train on": "plans/test_doctor.py::test_huge_volumes",
    "is tiny: a slice has a side of less than 8 pixels": "plans/test_doctor.py::tiny_picture",
    "has undeclared label values": "plans/test_doctor.py::undeclared",
    "has label values that are not whole numbers": "plans/test_doctor.py::fractional",
    "the label map has negative values": "plans/test_doctor.py::negative",
    "is not a label map": "plans/test_doctor.py::several_channels",
    "is not a mask of colours": "plans/test_doctor_messages.py::test_a_volume_where_colours_are_declared",
    "case ... holds class '...', which by 'annotated' in dataset.json was not annotated in it": (
        "plans/test_doctor_messages.py::test_a_class_that_was_not_annotated"
    ),
    "its mask is empty": "plans/test_doctor_across.py::test_empty_masks",
    "no case has any foreground": (
        "plans/test_doctor_across.py::test_when_all_masks_are_empty_nothing_else_is_told_of_classes"
    ),
    "a declared class occurs in no case": "plans/test_doctor_across.py::test_classes_in_no_case_and_in_one",
    "a declared class occurs in a single case": "plans/test_doctor_across.py::test_classes_in_no_case_and_in_one",
    "the same image is trained and validated on": "plans/test_doctor_across.py::test_the_same_image_twice",
    "the same image is there several times": "plans/test_doctor_across.py::test_the_same_image_twice_in_a_group",
    "nearly the same image is trained and validated on": "plans/test_doctor_across.py::test_frames_of_one_video",
    "is far from the usual size": "plans/test_doctor_across.py::test_a_case_of_another_size",
    "is far from the usual spacing": "plans/test_doctor_across.py::test_a_volume_of_another_spacing",
    "is far from the usual intensities": "plans/test_doctor_across.py::test_a_volume_of_other_intensities",
    "mixes volumes and pictures": "plans/test_doctor_across.py::test_volumes_among_pictures",
    "mixes grey and coloured pictures": "plans/test_doctor_across.py::test_grey_among_coloured_pictures",
    "mixes pictures of several bit depths": "plans/test_doctor_across.py::test_several_bit_depths",
    "case names differ in upper and lower case only": (
        "plans/test_doctor_across.py::test_names_that_differ_in_case_only"
    ),
}


def texts(node: ast.expr) -> list[str]:
    """The strings that an expression can be, with ... for what is filled in."""
    if isinstance(node, ast.IfExp):
        return texts(node.body) + texts(node.orelse)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
        return ["".join(parts)]
    return []


def messages(module: str) -> set[str]:
    """The sentences that a module's errors and findings begin with: literals, or assigned to `problem` before."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError":
            found |= {*texts(node.args[0])}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "tell":
            found |= {*texts(node.args[1])}
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "problem":
            found |= {*texts(node.value)}
        if isinstance(node, ast.keyword) and node.arg in ("problem", "sheared"):
            found |= {*texts(node.value)}
    return found


def documented() -> set[str]:
    return set(re.findall(r"^\| `(.+?)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


def is_said(message: str, known: set[str]) -> bool:
    """Whether a sentence of the code is one of those known, which may end where the code fills something in."""
    pattern = re.escape(message.split(";")[0]).replace(re.escape("..."), ".+?")
    return any(re.fullmatch(pattern, sentence) or message.startswith(sentence) for sentence in known)


@pytest.mark.parametrize("module", MODULES)
def test_every_message_is_known(module):
    unknown = {message for message in messages(module) if not is_said(message, TESTED.keys() | ELSEWHERE)}
    assert not {message for message in unknown if not message.startswith(("'annotated'", "by 'annotated'"))}


def test_messages_are_found_in_the_code():
    every = set().union(*map(messages, MODULES))
    assert {"is too large to train on", "does not lie on the same grid as ...", "is far from the usual size"} <= every
    assert not is_said("is something new", TESTED.keys()) and len(every) > 60


@pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree")
def test_every_message_is_documented_and_no_other():
    assert documented() == TESTED.keys()


@pytest.mark.parametrize("message", TESTED)
def test_every_message_has_its_test(message):
    file, _, name = TESTED[message].partition("::")
    defined = {
        node.name for node in ast.walk(ast.parse((TESTS / file).read_text())) if isinstance(node, ast.FunctionDef)
    }
    assert name in defined


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    PIL.Image.new("L", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(UserError, match=r"a\.png: cannot be read \(no permission\)"):
        read_image(tmp_path / "a.png")


def raw(folder: Path, **entries) -> Path:
    """Two volumes of noise, x and y, with empty masks."""
    said = {"channel_names": {"0": "own"}, "labels": {"background": 0, "a": 1, "b": 2}, "modality": "my own"}
    (folder / "imagesTr").mkdir()
    (folder / "labelsTr").mkdir()
    for seed, name in enumerate("xy"):
        noise = np.random.default_rng(seed).normal(scale=90, size=(20, 18, 10))
        save(folder / "imagesTr" / f"{name}_0000.nii", noise)
        save(folder / "labelsTr" / f"{name}.nii", np.zeros(noise.shape))
    (folder / "dataset.json").write_text(json.dumps(said | entries))
    return folder


def save(path: Path, array: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.eye(4)), path)


def problems(folder: Path) -> list[str]:
    return [f.problem for f in fingerprint(load_dataset(folder), workers=1).findings if f.level == "error"]


def test_a_volume_where_colours_are_declared(tmp_path):
    folder = raw(tmp_path, mask_values={"#000000": 0, "#ff0000": 1, "#00ff00": 2})
    assert problems(folder)[0].startswith(
        "is not a mask of colours; expected 8 bits, grey or colour; found 1 channels of"
    )


def test_a_class_that_was_not_annotated(tmp_path):
    folder = raw(tmp_path, annotated={"x": ["a"]})
    label = np.zeros((20, 18, 10))
    label[3:9, 3:9, 3:9] = 2
    save(folder / "labelsTr" / "x.nii", label)
    assert "case x holds class 'b', which by 'annotated' in dataset.json was not annotated in it" in problems(folder)[0]
