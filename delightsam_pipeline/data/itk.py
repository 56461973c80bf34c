"""NRRD, MetaImage and GIPL files: reading onto canonical axes, and label maps in the geometry of their image."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from delightsam_pipeline.data.damage import check_size, damage_reported
from delightsam_pipeline.data.formats import ending_of
from delightsam_pipeline.data.geometry import file_grid, grid_of
from delightsam_pipeline.data.image import Grid, Image, Orientation
from delightsam_pipeline.data.itk_files import check_beginning, held_bytes
from delightsam_pipeline.data.labels import storage_type
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import disk_errors, writing

_NAMES = {".nrrd": "NRRD", ".mha": "MetaImage", ".mhd": "MetaImage", ".gipl": "GIPL", ".gipl.gz": "GIPL"}
_READERS = {"NRRD": "NrrdImageIO", "MetaImage": "MetaImageIO", "GIPL": "GiplImageIO"}
_LEVEL = 2  # of compression
_MOST_GIPL = 65535  # ITK writes no larger type of whole numbers there
_LOCAL_DATA = b"ElementDataFile = LOCAL\n"

SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # what matters is raised


@dataclass(frozen=True)
class _Geometry:
    """A file's place as ITK says it, x y z, so that a label map gets the very same numbers.

    direction : [3, 3] row by row, or [2, 2] for a flat file.
    """

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


def read(path: Path, as_label: bool = False) -> Image:
    """The image [C, z, y, x] on canonical axes; a fourth axis, or several numbers per voxel, are the channels.

    Integers keep their type, everything else becomes float32. A flat file whose header says nothing about its place is
    a picture, any other is physical. `as_label` makes no difference here.
    Raises UserError for damaged files, for complex numbers, and for what a Grid cannot say.
    """
    ending = ending_of(path)
    with damage_reported(path, _NAMES[ending], RuntimeError):
        check_beginning(path, ending)
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO(_READERS[_NAMES[ending]])
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        _check(reader, path, ending)
        stored = reader.Execute()
    array = _channels_first(stored, path)
    geometry = _geometry(stored)
    grid = _grid(geometry, array.shape[1:], path)
    orientation = Orientation.to_canonical(grid)
    kind = array.dtype if array.dtype.kind in "iu" else np.float32
    array = orientation.apply(array).astype(kind, order="C")
    return Image(array, orientation.apply_to_grid(grid), orientation, Path(path), geometry)


def write_labels(path: Path, labels: np.ndarray, like: Image) -> None:
    """Write labels [z, y, x] on `like`'s canonical axes with the axes and the place of the file that `like` was.

    Compressed where the format can be (GIPL only as .gipl.gz). The data of an .mhd goes into a .zraw beside it.
    Raises UserError when the file cannot be written, and for GIPL, which has no directions, when `like` is turned.
    """
    if labels.shape != like.grid.shape:
        raise ValueError(f"labels {labels.shape} are not on the image's grid {like.grid.shape}")
    highest, ending = int(labels.max(initial=0)), ending_of(path)
    geometry = like.header if isinstance(like.header, _Geometry) else _geometry_of(like)
    array = like.orientation.undo(labels).astype(storage_type(highest), order="C")
    if ending.startswith(".gipl"):
        _check_gipl(geometry, highest, path)
    flat = len(geometry.spacing) == 2
    image = SimpleITK.GetImageFromArray(array[0] if flat else array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    _write(path, image, ending)


def _write(path: Path, image: SimpleITK.Image, ending: str) -> None:
    content = _encoded(image, ".mha" if ending == ".mhd" else ending, path)
    if ending != ".mhd":
        with writing(path) as temporary:
            temporary.write_bytes(content)
        return
    # An .mhd is an .mha cut in two; its data comes first, since a header without data is of no use.
    header, _, data = content.partition(_LOCAL_DATA)
    data_file = path.with_suffix(".zraw")
    with writing(data_file) as temporary:
        temporary.write_bytes(data)
    with writing(path) as temporary:
        temporary.write_bytes(header + _LOCAL_DATA.replace(b"LOCAL", data_file.name.encode()))


def _encoded(image: SimpleITK.Image, ending: str, path: Path) -> bytes:
    """A file's content. Written elsewhere first: ITK goes by the name, and knows endings in lower case only."""
    with disk_errors(path), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"labels{ending}"
        writer = SimpleITK.ImageFileWriter()
        writer.SetFileName(str(file))
        writer.UseCompressionOn()
        writer.SetCompressionLevel(_LEVEL)
        writer.Execute(image)
        return file.read_bytes()


def _check(reader: SimpleITK.ImageFileReader, path: Path, ending: str) -> None:
    """Refuse what is no image of real numbers, and what the file cannot hold, before memory is taken for it."""
    dtype = SimpleITK.GetArrayViewFromImage(SimpleITK.Image([1, 1], reader.GetPixelID())).dtype
    if dtype.kind not in "iuf":
        fix = "export it with real numbers, one per voxel and channel"
        raise UserError("has complex voxels", file=path, expected="real numbers", found=dtype, fix=fix)
    components = (reader.GetNumberOfComponents(),) if reader.GetNumberOfComponents() > 1 else ()
    check_size((*components, *reader.GetSize()[::-1]), dtype.itemsize, held_bytes(path, ending), path)


def _channels_first(stored: SimpleITK.Image, path: Path) -> np.ndarray:
    """[C, z, y, x] of an image of 2 to 4 axes with one or several numbers per voxel."""
    array = SimpleITK.GetArrayViewFromImage(stored)
    axes = stored.GetDimension()
    if array.ndim > axes:
        array = np.moveaxis(array, -1, 0)
        if axes == 4 and array.shape[1] == 1:
            array = array[:, 0]
    elif axes < 4:
        array = array[None]
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4:
        raise UserError("has too many axes", file=path, expected="2 to 4", found=f"size {stored.GetSize()}")
    return array


def _geometry(stored: SimpleITK.Image) -> _Geometry:
    """The spatial part of what ITK says."""
    axes, kept = stored.GetDimension(), min(stored.GetDimension(), 3)
    direction = np.reshape(stored.GetDirection(), (axes, axes))[:kept, :kept] + 0.0  # no negative zeros
    return _Geometry(stored.GetSpacing()[:kept], stored.GetOrigin()[:kept], tuple(direction.ravel().tolist()))


def _grid(geometry: _Geometry, shape: tuple[int, ...], path: Path) -> Grid:
    """The grid of the array z y x."""
    axes = len(geometry.spacing)
    if geometry == _Geometry((1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0)):
        return Grid.picture(*shape[1:])
    affine = np.eye(4)
    affine[:axes, :axes] = np.reshape(geometry.direction, (axes, axes)) * geometry.spacing
    affine[:axes, 3] = geometry.origin
    return grid_of(affine, shape, path)


def _geometry_of(like: Image) -> _Geometry:
    """The place of an image that came from another format."""
    grid = file_grid(like)
    axes = 3 if grid.physical or grid.shape[0] > 1 else 2
    direction = np.asarray(grid.direction)[:axes, 2::-1][:, :axes]
    return _Geometry(grid.spacing[::-1][:axes], grid.origin[:axes], tuple(float(v) for v in direction.ravel()))


def _check_gipl(geometry: _Geometry, highest: int, path: Path) -> None:
    axes = len(geometry.spacing)
    if not np.allclose(np.reshape(geometry.direction, (axes, axes)), np.eye(axes), atol=1e-6):
        problem = "GIPL cannot say how the image is turned, so that the labels would not lie on it"
        raise UserError(problem, file=path, fix="write .nii.gz, .nrrd or .mha")
    if highest > _MOST_GIPL:
        raise ValueError(f"label {highest} does not fit into a GIPL file")
