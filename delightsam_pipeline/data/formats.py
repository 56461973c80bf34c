"""Reading images and label maps, and writing label maps, whatever the file's format."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.data.labels import storage_type
from delightsam_pipeline.errors import UserError

# Modules are named, not imported: where only the preprocessed store is read, their libraries need not be installed.
_MODULES = {
    ".nii.gz": "delightsam_pipeline.data.nifti",
    ".nii": "delightsam_pipeline.data.nifti",
    ".png": "delightsam_pipeline.data.picture",
}
ENDINGS: tuple[str, ...] = tuple(_MODULES)
_WHOLE = 1e-3  # scaled integers come back as floats this near to whole numbers


def known_ending(path: Path) -> str | None:
    """The ending in lower case when it is one of ENDINGS, else None."""
    name = Path(path).name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending) and name != ending), None)


def ending_of(path: Path) -> str:
    """The file's ending in lower case, one of ENDINGS (`.nii.gz` counts as one). Raises UserError for others."""
    ending = known_ending(path)
    if ending is None:
        found = Path(path).suffix or "no ending"
        raise UserError("is not in a format that can be read", file=path, expected=" ".join(ENDINGS), found=found)
    return ending


def read_image(path: Path) -> Image:
    """The image [C, z, y, x] in `path`, on canonical axes, in the type it is stored in.

    Raises UserError when the file is missing, of an unknown format, damaged, or holds NaN or infinite values.
    """
    image = _module(path, must_exist=True).read(Path(path))
    if image.array.dtype.kind == "f":
        bad = image.array.size - int(np.count_nonzero(np.isfinite(image.array)))
        if bad:
            fix = "replace them with the background value, or leave the case out"
            raise UserError(f"{bad} of {image.array.size} values are NaN or infinite", file=path, fix=fix)
    return image


def read_labels(path: Path) -> Image:
    """The label map [1, z, y, x] in `path`, on canonical axes, in the smallest unsigned type that holds it.

    Floats that are whole numbers are accepted, and so are colour masks whose channels are equal.
    Raises UserError as `read_image` does, and for fractions, negative values and channels that differ.
    """
    image = _module(path, must_exist=True).read(Path(path), as_label=True)
    array = image.array
    if len(array) > 1 and (array == array[:1]).all():
        array = array[:1]
    if len(array) != 1:
        fix = "save the mask with one number per class instead of colours or several channels"
        raise UserError(
            "is not a label map: its channels differ", file=path, expected="1 channel", found=len(array), fix=fix
        )
    array = _whole_numbers(array, path)
    return Image(array, image.grid, image.orientation, image.source, image.header)


def _whole_numbers(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(array - rounded) <= _WHOLE)
        if wrong.any():
            fix = "export the mask again, with nearest-neighbour interpolation if it was resampled"
            problem = f"{int(wrong.sum())} values of the label map are not whole numbers"
            raise UserError(problem, file=path, found=f"{array[wrong][0]:.6g}", fix=fix)
        array = rounded
    if array.min() < 0:
        raise UserError("the label map has negative values", file=path, found=f"{array.min():g}", fix="make them 0")
    return array.astype(storage_type(int(array.max())), copy=False)


def write_labels(path: Path, labels: np.ndarray, like: Image) -> None:
    """Write labels [z, y, x], integers on `like`'s canonical axes, in the file axes and geometry that `like` had."""
    _module(path).write_labels(Path(path), labels, like)


def read_case(paths: Sequence[Path]) -> Image:
    """The files of one case, one per channel (or several channels in a file), as one image [C, z, y, x].

    The type is the narrowest that holds all files' (float32 at most); geometry and source are the first file's.
    Raises UserError as `read_image` does, and when the files do not lie on the same grid.
    """
    images = [read_image(path) for path in paths]
    first = images[0]
    for path, image in zip(paths, images, strict=True):
        require_same_space(image.grid, path, first.grid, paths[0])
    if len(images) == 1:
        return first
    common = np.result_type(*(image.array for image in images))
    if common.kind == "f":
        common = np.dtype(np.float32)
    array = np.concatenate([image.array.astype(common, copy=False) for image in images])
    return Image(array, first.grid, first.orientation, first.source, first.header)


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
        origin = " ".join(f"{v:.4g}" for v in grid.origin)
        rows = " / ".join(" ".join(f"{v:.4g}" for v in reversed(row)) for row in grid.direction)
        text += f" at origin ({origin}) with direction ({rows}), LPS"
    return text


def _module(path: Path, must_exist: bool = False) -> ModuleType:
    ending = ending_of(path)
    if must_exist and not Path(path).is_file():
        raise UserError("is not a file" if Path(path).exists() else "does not exist", file=path)
    return import_module(_MODULES[ending])
