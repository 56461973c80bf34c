"""Files of a source as files of a raw dataset: copied or linked byte for byte, and made anew only where they must."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from delightsam_pipeline.data import nifti, picture
from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.damage import damage_reported
from delightsam_pipeline.data.dicom_files import series_files
from delightsam_pipeline.data.dicom_header import read_header
from delightsam_pipeline.data.formats import ending_of, read_image
from delightsam_pipeline.data.itk_files import data_beside
from delightsam_pipeline.data.tiff import spacing_files
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json, writing

COPY, HEADER, DECODE = "copy", "header", "decode"
_DETACHED = re.compile(rb"^data ?file:", re.MULTILINE | re.IGNORECASE)
_DATA_FILE = re.compile(rb"^(\s*ElementDataFile\s*[=:]\s*)[^\r\n]*", re.MULTILINE)
_MOST_HEADER = 1 << 16
_AS_PNG = (("uint8", 1), ("uint8", 3), ("uint16", 1))


@dataclass(frozen=True)
class Step:
    """One file to make.

    target : relative to the dataset's folder.
    how : COPY byte for byte, HEADER of a MetaImage whose data file has a new name, or DECODE DICOM.
    """

    source: Path
    target: str
    how: str = COPY


def steps_of(case: Case, part: str) -> list[Step]:
    """The files of a case in imagesTr and labelsTr, or with the part `Ts` in imagesTs and labelsTs.

    Raises UserError for files that cannot be called anew, and for DICOM that is damaged or can become neither PNG nor
    NIfTI.
    """
    steps = []
    for channel, path in enumerate(case.images):
        steps += _steps(path, f"images{part}/{case.name}", f"_{channel:04d}")
    if case.label is not None:
        steps += _steps(case.label, f"labels{part}/{case.name}", "")
    return steps


def _steps(path: Path, stem: str, number: str) -> list[Step]:
    ending = ending_of(path)
    if ending == ".dcm":
        return [Step(path, f"{stem}{number}{_ending_for(path)}", DECODE)]
    step = Step(path, f"{stem}{number}{ending}")
    if ending in (".tif", ".tiff"):
        spacing = next((file for file in spacing_files(path) if _has_spacing(file)), None)
        # of the first channel where nnU-Net looks for it
        name = f"{stem}.json" if number in ("", "_0000") else f"{stem}{number}.json"
        return [step] if spacing is None else [step, Step(spacing, name)]
    if ending in (".mhd", ".mha"):
        with damage_reported(path, "MetaImage"):
            data = data_beside(path)
        if data is not None and not data.is_file():
            raise UserError("its data file does not exist", file=path, expected=data)
        if data is not None:
            return [Step(data, f"{stem}{number}{data.suffix or '.raw'}"), Step(path, step.target, HEADER)]
    if ending == ".nrrd" and _DETACHED.search(_start(path).split(b"\n\n")[0]):
        raise UserError("its voxels lie in another file", file=path, fix="save it as one file")
    return [step]


def _ending_for(path: Path) -> str:
    """What DICOM becomes: NIfTI, or PNG where it is a picture without any spacing.

    Raises UserError for what has no spacing and cannot be a PNG: a NIfTI would claim one of 1 mm.
    """
    files = series_files(path) if path.is_dir() else [path]
    if len(files) > 1:
        return ".nii.gz"
    header = read_header(files[0])
    if header.spacing is not None:
        return ".nii.gz"
    if header.shape[0] > 1:
        fix = "save the frames that are wanted as PNG pictures, and convert those"
        raise UserError("has no pixel spacing and several frames", file=path, found=header.shape[0], fix=fix)
    if (str(header.dtype), header.channels) not in _AS_PNG:
        problem, found = "has no pixel spacing and values that PNG cannot hold", f"{header.channels} x {header.dtype}"
        fix = "save it as a TIFF, and convert that, or export it with its spacing"
        raise UserError(problem, file=path, expected="8 bits, or grey of 16 without sign", found=found, fix=fix)
    return ".png"


def _has_spacing(file: Path) -> bool:
    if not file.is_file():
        return False
    value = read_json(file)
    return isinstance(value, dict) and "spacing" in value


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MOST_HEADER)


def perform(step: Step, folder: Path, link: str | None = None) -> bool:
    """Make one file; `link` is "hard" or "symbolic" instead of a copy. Returns whether it was made as asked.

    Where a file system has no such links, the file is copied. Raises UserError when a file cannot be read or written.
    """
    target = folder / step.target
    if step.how == DECODE:
        write = picture.write_image if target.suffix == ".png" else nifti.write_image
        write(target, read_image(step.source))
        return True
    if step.how == HEADER:
        _rename_data(step.source, target)
        return True
    return _copy(step.source, target, link)


def _copy(source: Path, target: Path, link: str | None) -> bool:
    if link is not None:
        make = os.link if link == "hard" else os.symlink
        try:
            make(source.resolve(), target)
            return True
        except OSError:  # another file system, or one without links
            target.unlink(missing_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise UserError(f"cannot be copied ({error.strerror})", file=source, expected=target) from None
    return link is None


def _rename_data(source: Path, target: Path) -> None:
    """A MetaImage header that names the data file beside its copy; the rest as it is."""
    data = data_beside(source)
    name = f"{target.stem}{data.suffix or '.raw'}".encode()
    with writing(target) as temporary:
        temporary.write_bytes(_DATA_FILE.sub(lambda match: match[1] + name, source.read_bytes(), count=1))
