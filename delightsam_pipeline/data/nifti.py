"""NIfTI files (.nii, .nii.gz): reading onto canonical axes, and label maps in the geometry of their image."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from nibabel.wrapstruct import WrapStructError

from delightsam_pipeline.data.damage import DEFLATE_RATIO, check_size, damage_reported
from delightsam_pipeline.data.geometry import file_grid, grid_of
from delightsam_pipeline.data.image import Image, Orientation
from delightsam_pipeline.data.labels import storage_type
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import writing

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # codes of metre and micrometre; all others mean mm
_GZIP_LEVEL = 2
_DAMAGED = (ImageFileError, HeaderDataError, HeaderTypeError, WrapStructError)


def read(path: Path, as_label: bool = False) -> Image:
    """The image [C, z, y, x] on canonical axes; the last axis of a 4D file is the channels.

    Unscaled integers keep their type, everything else becomes float32. `as_label` makes no difference here.
    The header of the result is the file's own.
    Raises UserError for damaged files, and for what a Grid cannot say: sheared, singular or NaN affines.
    """
    with damage_reported(path, "NIfTI", *_DAMAGED), _opened(path) as stream:
        stored = _image_class(stream).from_file_map({"image": FileHolder(fileobj=stream)}, mmap=False)
        _check_header(stored, path)
        data = _voxels(stored)
        # Only at its end does a compressed file tell whether it is whole.
        while stream.read(1 << 20):
            pass
    array = _channels_first(data, path)
    fix = "mend the header (sform and qform) or export the file again"
    grid = grid_of(_lps_affine(stored), array.shape[1:], path, fix=fix)
    orientation = Orientation.to_canonical(grid)
    array = np.ascontiguousarray(orientation.apply(array))
    return Image(array, orientation.apply_to_grid(grid), orientation, Path(path), stored.header.copy())


def write_labels(path: Path, labels: np.ndarray, like: Image) -> None:
    """Write labels [z, y, x] on `like`'s canonical axes with the shape, affine and header of the file `like` was.

    An image of several channels gets a 3D label map. An image that was no NIfTI gets a header made from its grid.
    Raises UserError when the file cannot be written.
    """
    if labels.shape != like.grid.shape:
        raise ValueError(f"labels {labels.shape} are not on the image's grid {like.grid.shape}")
    data = like.orientation.undo(labels).transpose(2, 1, 0)
    header = like.header
    if isinstance(header, nibabel.Nifti1Header):
        header = header.copy()
        data = data.reshape(_label_shape(header, data.shape))
    else:
        header = _new_header(like)
    # Extensions and intent describe the image, and may name the patient.
    header.extensions = type(header.extensions)()
    header.set_intent("none", allow_unknown=True)
    header["cal_min"] = header["cal_max"] = 0
    data = data.astype(storage_type(int(labels.max(initial=0))))
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    header["vox_offset"] = 0
    _write(path, data, header)


def write_image(path: Path, image: Image) -> None:
    """Write an image [C, z, y, x] with its own type along the axes of the file it came from; channels are the last.

    The header is made from its grid, with nothing of the source's. Raises UserError when the file cannot be written.
    """
    data = image.orientation.undo(image.array).transpose(3, 2, 1, 0)
    data = data[..., 0] if data.shape[3] == 1 else data
    header = _new_header(image)
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    _write(path, data, header)


def _write(path: Path, data: np.ndarray, header: nibabel.Nifti1Header) -> None:
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    # No affine: nibabel would set the codes of qform and sform anew from it.
    content = kind(data, None, header)
    compressed = Path(path).name.lower().endswith(".gz")
    with writing(path) as temporary, open(temporary, "wb") as file:
        if compressed:
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as stream:
                content.to_file_map({"image": FileHolder(fileobj=stream)})
        else:
            content.to_file_map({"image": FileHolder(fileobj=file)})


def _opened(path: Path) -> BinaryIO:
    return gzip.open(path) if Path(path).name.lower().endswith(".gz") else open(path, "rb")


def _image_class(stream: BinaryIO) -> type[nibabel.Nifti1Image]:
    """NIfTI-1 or NIfTI-2 by the size of the header, which both begin with."""
    size = stream.read(4)
    stream.seek(0)
    is_second = 540 in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
    return nibabel.Nifti2Image if is_second else nibabel.Nifti1Image


def _check_header(stored: nibabel.Nifti1Image, path: Path) -> None:
    """Refuse what cannot be an image before any memory is taken for it."""
    dtype = stored.get_data_dtype()
    if dtype.kind not in "iuf":
        fix = "export it with real numbers, one per voxel and channel"
        raise UserError("has complex or colour voxels", file=path, expected="real numbers", found=dtype, fix=fix)
    room = path.stat().st_size * (DEFLATE_RATIO if path.name.lower().endswith(".gz") else 1)
    check_size(stored.shape, dtype.itemsize, room, path)


def _voxels(stored: nibabel.Nifti1Image) -> np.ndarray:
    proxy = stored.dataobj
    unscaled = proxy.slope == 1 and proxy.inter == 0
    if unscaled and proxy.dtype.kind in "iu":
        data = proxy.get_unscaled()
        return data.astype(data.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):
        return np.asarray(proxy, dtype=np.float32)


def _channels_first(data: np.ndarray, path: Path) -> np.ndarray:
    """[x, y(, z(, C))] -> [C, z, y, x]; ITK puts channels on a fifth axis behind one of length 1."""
    if data.ndim == 5 and data.shape[3] == 1:
        data = data[:, :, :, 0]
    while data.ndim > 4 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim > 4:
        raise UserError("has too many axes", file=path, expected="2 to 4", found=f"shape {data.shape}")
    data = data.reshape(data.shape + (1,) * (4 - data.ndim))
    return data.transpose(3, 2, 1, 0)


def _lps_affine(stored: nibabel.Nifti1Image) -> np.ndarray:
    """[4, 4] from the file's index (x, y, z, 1) to LPS in mm."""
    affine = _RAS_TO_LPS @ np.asarray(stored.affine, float)
    affine[:3] *= _MM_PER_UNIT.get(int(stored.header["xyzt_units"]) & 7, 1.0)
    return affine


def _label_shape(header: nibabel.Nifti1Header, spatial: tuple[int, ...]) -> tuple[int, ...]:
    """The file's own shape when it holds one number per voxel, else its spatial axes."""
    shape = tuple(int(n) for n in header.get_data_shape())
    return shape if np.prod(shape) == np.prod(spatial) else spatial


def _new_header(like: Image) -> nibabel.Nifti1Header:
    """A header for the file axes of an image that did not come from a NIfTI file."""
    grid = file_grid(like)
    affine = _RAS_TO_LPS @ grid.affine()[:, [2, 1, 0, 3]]
    header = nibabel.Nifti1Header()
    header.set_xyzt_units("mm")
    header.set_data_shape(grid.shape[::-1])
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    return header
