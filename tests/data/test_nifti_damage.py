"""NIfTI files that are damaged, or that say what no image here can: each is refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from delightsam_pipeline.data import nifti
from delightsam_pipeline.errors import UserError


def save(path: Path, data: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    return path


def test_too_many_axes_are_refused(tmp_path):
    with pytest.raises(UserError, match="too many axes"):
        nifti.read(save(tmp_path / "a.nii", np.zeros((5, 4, 3, 2, 2), np.int16)))


SHEARED = np.array([[1, 0.05, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (SHEARED, "the affine is sheared.*2.86 degrees"),
        (np.diag([1.0, 1, 0, 1]), "singular"),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        (np.diag([1.0, np.nan, 1, 1]), "NaN"),
    ],
)
def test_affines_that_a_grid_cannot_say_are_refused(tmp_path, rows, problem):
    header = {"srow_x": rows[0], "srow_y": rows[1], "srow_z": rows[2], "sform_code": 1, "qform_code": 0}
    path = save(tmp_path / "a.nii", np.zeros((5, 4, 3), np.int16))
    stored = bytearray(path.read_bytes())
    fields = nibabel.Nifti1Header(bytes(stored[:348]), check=False)
    for key, value in header.items():
        fields[key] = value
    stored[:348] = fields.binaryblock
    path.write_bytes(stored)
    with pytest.raises(UserError, match=f"a.nii: .*{problem}"):
        nifti.read(path)


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_complex_and_colour_voxels_are_refused(tmp_path, dtype):
    path = save(tmp_path / "a.nii.gz", np.zeros((5, 4, 3), dtype))
    with pytest.raises(UserError, match=r"a\.nii\.gz: has complex or colour voxels"):
        nifti.read(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kept", [0, 2, 200, 0.5, 0.9, -3])
def test_truncated_files_are_named(tmp_path, ending, kept):
    noise = np.random.default_rng(0).integers(-999, 999, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / f"a{ending}", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=rf"a{ending}: .*may be incomplete; copy or export it again"):
        nifti.read(path)


def test_a_changed_byte_in_a_compressed_file_is_found(tmp_path):
    noise = np.random.default_rng(0).integers(-999, 999, (20, 20, 20)).astype(np.int16)
    content = bytearray(save(tmp_path / "a.nii.gz", noise).read_bytes())
    content[-1000] ^= 8
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.nii\.gz: cannot be read"):
        nifti.read(tmp_path / "a.nii.gz")


def test_files_that_are_something_else(tmp_path):
    for name, content in [
        ("a.nii.gz", b"no gzip" * 99),
        ("b.nii", b"text" * 999),
        ("c.nii.gz", gzip.compress(b"x" * 999)),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: cannot be read as NIfTI"):
            nifti.read(tmp_path / name)


@pytest.mark.parametrize(("dim", "problem"), [((-1, 4, 3), "no valid shape"), ((32000, 32000, 32000), "too large")])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_absurd_shapes_are_refused_before_memory_is_taken(tmp_path, dim, problem, ending):
    header = nibabel.Nifti1Header()
    header["dim"][:4] = [3, *dim]
    header["magic"], header["vox_offset"], header["datatype"], header["bitpix"] = b"n+1", 352, 2, 8
    content = header.binaryblock + b"\0" * 100
    (tmp_path / f"a{ending}").write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
    with pytest.raises(UserError, match=problem):
        nifti.read(tmp_path / f"a{ending}")


def test_a_header_that_asks_for_more_than_the_file_holds(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((2000, 2000, 2000))
    header["magic"], header["vox_offset"], header["datatype"], header["bitpix"] = b"n+1", 352, 64, 64
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + b"\0" * 100))
    with pytest.raises(UserError, match=r"more than the file can hold.*incomplete"):
        nifti.read(tmp_path / "a.nii.gz")
