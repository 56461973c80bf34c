"""Reading images and label maps, and writing label maps, whatever the file's format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from delightsam_pipeline.data.dicom_files import is_series
from delightsam_pipeline.data.geometry import turned
from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.errors import UserError

# Modules are named, not imported: where only the preprocessed store is read, their libraries need not be installed.
_PACKAGE = "delightsam_pipeline.data"
_MODULES = {
    **dict.fromkeys((".nii.gz", ".nii"), "nifti"),
    **dict.fromkeys((".nrrd", ".mha", ".mhd", ".gipl", ".gipl.gz"), "itk"),
    **dict.fromkeys((".tif", ".tiff"), "tiff"),
    **dict.fromkeys((".png", ".bmp", ".jpg", ".jpeg", ".gif"), "picture"),
    ".dcm": "dicom",
}
ENDINGS: tuple[str, ...] = tuple(_MODULES)
# JPEG would change the labels, and GIF and DICOM are no formats to work on masks in.
_WRITTEN_AS = {**dict.fromkeys((".jpg", ".jpeg", ".gif"), ".png"), ".dcm": ".nii.gz"}


def known_ending(path: Path) -> str | None:
    """The ending in lower case when it is one of ENDINGS, else None; a folder that holds DICOM images has .dcm."""
    if is_series(path):
        return ".dcm"
    name = Path(path).name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending) and name != ending), None)


def ending_of(path: Path) -> str:
    """The ending as `known_ending` gives it (`.nii.gz` counts as one). Raises UserError for others."""
    ending = known_ending(path)
    if ending is None:
        found = Path(path).suffix or "no ending"
        raise UserError("is not in a format that can be read", file=path, expected=" ".join(ENDINGS), found=found)
    return ending


def files_of(path: Path) -> list[Path]:
    """A case's file or folder, and the files beside it that it is read with, as far as they are there.

    These are the voxels of a MetaImage, and what says the spacing of a TIFF file.
    """
    ending, beside = known_ending(path), []
    if ending in (".tif", ".tiff"):
        beside = import_module(f"{_PACKAGE}.tiff").spacing_files(path)
    elif ending in (".mhd", ".mha"):
        with suppress(UserError, ValueError, OSError):
            data = import_module(f"{_PACKAGE}.itk_files").data_beside(path)
            beside = [] if data is None else [data]
    return [path, *filter(os.path.isfile, beside)]


def stem_of(path: Path) -> str:
    """What a case is called: the name without its known ending, a DICOM folder's whole name.

    Raises UserError for unknown endings.
    """
    if is_series(path):
        return os.path.basename(os.path.abspath(path))
    return Path(path).name[: -len(ending_of(path))]


def output_ending(path: Path) -> str:
    """The ending of the file that a mask of this image is written to. Raises UserError for unknown endings."""
    ending = ending_of(path)
    return _WRITTEN_AS.get(ending, ending)


def read_image(path: Path) -> Image:
    """The image [C, z, y, x] in `path`, on canonical axes, in the type it is stored in.

    Raises UserError when the file is missing, of an unknown format, damaged, or holds NaN or infinite values.
    """
    image = _module(path, must_exist=True).read(Path(path))
    if image.array.dtype.kind == "f":
        finite = np.isfinite(image.array)
        if not finite.all():
            bad = image.orientation.undo(~finite)  # a viewer counts along the file's axes
            z, y, x = np.unravel_index(int(bad.any(axis=0).argmax()), bad.shape[1:])
            found = f"{np.count_nonzero(bad)} of {bad.size}, the first at x {x}, y {y}, z {z} counted from 0"
            fix = "replace them with the background value, or leave the case out"
            raise UserError("has values that are NaN or infinite", file=path, found=found, fix=fix)
    return image


def read_stored(path: Path, colours: bool = False) -> Image:
    """The numbers [C, z, y, x] of a mask file as they are stored, on canonical axes; with `colours`, what is seen.

    Raises UserError when the file is missing, of an unknown format or damaged.
    """
    return _module(path, must_exist=True).read(Path(path), as_label=not colours)


def write_labels(path: Path, labels: np.ndarray, like: Image) -> None:
    """Write labels [z, y, x], integers on `like`'s canonical axes, in the file axes and geometry that `like` had.

    The format is that of `path`'s ending, whatever `like` was. Raises UserError when it is none that masks are written
    in, when it cannot say where `like` lies, and when the file cannot be written.
    """
    expected = _WRITTEN_AS.get(ending_of(path))
    if expected is not None:
        raise UserError("masks are not written in this format", file=path, expected=expected)
    _module(path).write_labels(Path(path), labels, like)


def read_case(paths: Sequence[Path]) -> Image:
    """The files of one case, one per channel (or several channels in a file), as one image [C, z, y, x].

    The type is the narrowest that holds all files' (float32 at most); geometry and source are the first file's.
    Raises UserError as `read_image` does, and when the files do not lie on the same grid.
    """
    images = [read_image(path) for path in paths]
    first = images[0]
    images = [turned(image, first.grid) for image in images]
    for path, image in zip(paths, images, strict=True):
        require_same_space(image.grid, path, first.grid, paths[0])
    if len(images) == 1:
        return first
    common = np.result_type(*(image.array for image in images))
    if common.kind == "f":
        common = np.dtype(np.float32)
    array = np.concatenate([image.array.astype(common, copy=False) for image in images])
    modality = first.modality if len({image.modality for image in images}) == 1 else ""
    return replace(first, array=array, modality=modality)


def require_same_space(grid: Grid, path: Path, expected: Grid, expected_path: Path) -> None:
    """Raise a UserError that names both files unless their grids are the same."""
    if grid.same_space(expected):
        return
    apart = grid.shape == expected.shape and np.allclose(grid.spacing, expected.spacing, rtol=1e-3)
    raise UserError(
        f"does not lie on the same grid as {expected_path}",
        file=path,
        expected=describe(expected, position=apart),
        found=describe(grid, position=apart),
        fix="check that the files belong together, or resample one onto the other",
    )


def describe(grid: Grid, position: bool = False) -> str:
    """A grid in words, x first; with `position`, origin and direction too."""
    shape = " x ".join(str(n) for n in reversed(grid.shape))
    if not grid.physical:
        return f"{shape.removesuffix(' x 1')} pixels"
    text = f"{shape} voxels of {' x '.join(f'{s:.4g}' for s in reversed(grid.spacing))} mm"
    if position:
        origin = " ".join(f"{round(v, 4) + 0.0:.6g}" for v in grid.origin)
        rows = " / ".join(" ".join(f"{round(v, 4) + 0.0:g}" for v in reversed(row)) for row in grid.direction)
        text += f" at origin ({origin}) with direction ({rows}), LPS"
    return text


def _module(path: Path, must_exist: bool = False) -> ModuleType:
    ending = ending_of(path)
    if must_exist and not (Path(path).is_file() or is_series(path)):
        raise UserError("is not a file" if Path(path).exists() else "does not exist", file=path)
    return import_module(f"{_PACKAGE}.{_MODULES[ending]}")
