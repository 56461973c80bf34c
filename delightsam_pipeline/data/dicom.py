"""DICOM: a folder that holds one series, or a single file of one or several frames, as an image on canonical axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK

from delightsam_pipeline.data.damage import damage_reported
from delightsam_pipeline.data.dicom_files import series_files
from delightsam_pipeline.data.dicom_header import Header, read_header
from delightsam_pipeline.data.geometry import grid_of
from delightsam_pipeline.data.image import Grid, Image, Orientation
from delightsam_pipeline.errors import UserError

_ALIKE = 1e-3  # between the direction cosines of slices
_SAME_PLACE = 1e-3  # mm
_UNEVEN = 0.05  # of the distance between slices
_EXPORT = "export the whole series again"


def read(path: Path, as_label: bool = False) -> Image:
    """The image [C, z, y, x] of a DICOM file, or of the one series in a folder; colours are channels.

    Rescaled values that are whole keep a type of whole numbers, others become float32; pictures in which high values
    are dark (MONOCHROME1) are turned round. The distance of slices comes from their positions, never from their
    thickness. A single file without any spacing has pixels for mm, as a picture has. Nothing but values, geometry and
    the Modality tag is kept.
    `as_label` makes no difference here.
    Raises UserError for damaged files, several series, and slices that are missing, doubled, uneven or tilted.
    """
    path = Path(path)
    headers = [read_header(file) for file in (series_files(path) if path.is_dir() else [path])]
    _check_alike(headers, path)
    grid, order = _grid(headers, path)
    with damage_reported(path, "DICOM", RuntimeError):
        array = _voxels(headers, order)
    orientation = Orientation.to_canonical(grid)
    array = np.ascontiguousarray(orientation.apply(array))
    return Image(array, orientation.apply_to_grid(grid), orientation, path, modality=headers[0].modality)


def _check_alike(headers: Sequence[Header], path: Path) -> None:
    """Refuse a folder whose files are not the slices of one volume."""
    series = {header.series for header in headers}
    if len(series) != 1:
        fix = "put each series into a folder of its own"
        raise UserError("does not hold one DICOM series", file=path, expected=1, found=len(series), fix=fix)
    if len(headers) == 1:
        return
    without = sum(any(place is None for place in (h.positions, h.axes, h.spacing)) for h in headers)
    if without:
        expected = "ImagePositionPatient, ImageOrientationPatient and PixelSpacing in every file"
        found = f"{without} of {len(headers)} files without"
        raise UserError("does not say where its slices lie", file=path, expected=expected, found=found, fix=_EXPORT)
    ways = {
        "sizes": {f"{h.shape[2]} x {h.shape[1]} x {h.shape[0]}" for h in headers},
        "numbers of channels": {str(h.channels) for h in headers},
        "pixel spacings": {f"{h.spacing[0]:.4g} x {h.spacing[1]:.4g} mm" for h in headers},
    }
    if max(np.abs(h.axes - headers[0].axes).max() for h in headers) > _ALIKE:
        ways["orientations"] = {"slices along several axes", "such as those of a localiser"}
    for what, found in ways.items():
        if len(found) > 1:
            fix = "leave only the slices of one volume in the folder"
            raise UserError(f"its slices have different {what}", file=path, found=", ".join(sorted(found)), fix=fix)
    if headers[0].shape[0] > 1:
        fix = "put each file into a folder of its own"
        raise UserError("holds several files of many slices each", file=path, expected=1, found=len(headers), fix=fix)


def _grid(headers: Sequence[Header], path: Path) -> tuple[Grid, np.ndarray]:
    """The grid along the file's axes z y x, and the order in which the frames lie along z."""
    first = headers[0]
    shape = (sum(header.shape[0] for header in headers), *first.shape[1:])
    order = np.arange(shape[0])
    if first.spacing is None:
        return Grid(shape, (1.0, 1.0, 1.0), physical=False), order
    axes = np.eye(3)[:2] if first.axes is None else first.axes
    normal = np.cross(*axes)
    origin, step = np.zeros(3), normal * (first.across or 1.0)
    if first.positions is not None and first.axes is not None:
        positions = np.concatenate([header.positions for header in headers])
        if len(positions) == shape[0] > 1:
            order = np.argsort(positions @ normal, kind="stable")
            step = _even_step(positions[order], normal, path)
        origin = positions[order[0]]
    affine = np.eye(4)
    affine[:3, :2] = axes.T * first.spacing
    affine[:3, 2], affine[:3, 3] = step, origin
    tilted = "its slices are shifted against each other (gantry tilt)"
    return grid_of(affine, shape, path, sheared=tilted, fix=_EXPORT), order


def _even_step(positions: np.ndarray, normal: np.ndarray, path: Path) -> np.ndarray:
    """From one slice to the next, LPS in mm; positions [N, 3] are sorted along the normal."""
    count = len(positions)
    gaps = np.diff(positions @ normal)
    places = 1 + int((gaps > _SAME_PLACE).sum())
    if places < count:
        fix = "leave only one phase, echo or copy of the series in the folder"
        problem = "several slices lie at the same place"
        raise UserError(problem, file=path, expected=f"{places} slices", found=f"{count} slices", fix=fix)
    step = (positions[-1] - positions[0]) / (count - 1)
    even = positions[0] + np.arange(count)[:, None] * step
    away = np.linalg.norm(positions - even, axis=1).max()
    if away > _UNEVEN * np.linalg.norm(step):
        usual = float(np.median(gaps))
        worst = int(np.abs(gaps - usual).argmax())
        expected = f"{usual:.4g} mm between all slices"
        found = f"{gaps[worst]:.4g} mm between slices {worst + 1} and {worst + 2} of {count}"
        fix = f"a slice may be missing: {_EXPORT}, or resample it to even distances"
        raise UserError("its slices are not evenly spaced", file=path, expected=expected, found=found, fix=fix)
    return step


def _voxels(headers: Sequence[Header], order: np.ndarray) -> np.ndarray:
    """[C, z, y, x], the frames in this order."""
    dtype = np.result_type(*(header.dtype for header in headers))
    dtype = dtype if dtype.kind in "iu" else np.dtype(np.float32)
    if len(headers) == 1:
        return _stored(headers[0])[:, order].astype(dtype, copy=False)
    array = np.empty((headers[0].channels, len(headers), *headers[0].shape[1:]), dtype)
    for z, number in enumerate(order):
        array[:, z] = _stored(headers[number])[:, 0]
    return array


def _stored(header: Header) -> np.ndarray:
    """[C, frames, y, x] of one file."""
    array = SimpleITK.GetArrayFromImage(header.reader.Execute())
    return np.moveaxis(array.reshape(*header.shape, header.channels), -1, 0)
