"""dlsam_import_release MODALITY=FILE ... -o MODEL: checkpoints of De-LightSAM's authors as one model folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from delightsam_pipeline import __version__
from delightsam_pipeline.commands.common import Parser, command, log
from delightsam_pipeline.commands.new_folder import add_output, require_new
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.modalities import Modality, lookup
from delightsam_pipeline.plans.release import RELEASE_MODALITIES, release_plan

_RELEASE = tuple(map(lookup, RELEASE_MODALITIES))
_REPOSITORY = "https://github.com/xq141839/De-LightSAM"
_LICENCE = (
    f"not confirmed: the README of {_REPOSITORY} names none, others report Apache-2.0 for the repository; look there "
    "before you pass the weights on"
)


def parser() -> Parser:
    """The command's options."""
    p = Parser("Turn checkpoint files of De-LightSAM's authors into a model folder that dlsam_predict takes.")
    p.add_argument(
        "checkpoints",
        nargs="+",
        type=_pair,
        metavar="MODALITY=FILE",
        help="dermoscopy, X-ray, ultrasound, fundus, microscopy or endoscopy (by any name dataset.json takes, or by "
        "the release's number 0 to 5) and its checkpoint, one to six of them",
    )
    add_output(p, "MODEL")
    return p


def _pair(text: str) -> tuple[Modality, Path]:
    """MODALITY=FILE, for argparse."""
    name, equals, file = text.partition("=")
    if not (equals and file):
        raise argparse.ArgumentTypeError(f"'{text}' is not MODALITY=FILE, such as dermoscopy={file or name or 'FILE'}")
    row = next((m for m in _RELEASE if str(m.id) == name.strip()), None) or lookup(name)
    if row not in _RELEASE:
        known = ", ".join(f"{m.id} {m.name}" for m in _RELEASE)
        raise argparse.ArgumentTypeError(f"the release has no modality '{name}', only {known}")
    return row, Path(file)


def _work(args) -> None:
    files = _by_name(args.checkpoints)
    for file in files.values():
        if not file.is_file():
            raise UserError("no such weights file", file=file)
    require_new(args.output)

    from delightsam_pipeline.inference.model_folder import describe_model, save_weights
    from delightsam_pipeline.model.checkpoints import load_tensors
    from delightsam_pipeline.model.release import from_releases

    model = from_releases({name: load_tensors(file) for name, file in files.items()}, files)
    provenance = _provenance(files)
    # model.json comes last: a folder without it is no model
    save_weights(args.output / "model.safetensors", model.state_dict())
    describe_model(args.output, model, {name: release_plan(name) for name in files}, provenance)
    log.info("%s written to %s; licence of the weights: %s", ", ".join(files), args.output, _LICENCE)
    head = f" --head {next(iter(files))}" if len(files) > 1 else ""
    log.info("next: dlsam_predict -m %s -i IMAGES -o MASKS%s", args.output, head)


def _by_name(pairs: Iterable[tuple[Modality, Path]]) -> dict[str, Path]:
    """Modality -> file, by the release's numbers, so that the order of the arguments changes nothing."""
    files: dict[str, Path] = {}
    for row, file in sorted(pairs, key=lambda pair: pair[0].id):
        if row.name in files:
            raise UserError(f"{row.name} is given twice", found=f"{files[row.name]} and {file}", fix="give one of them")
        files[row.name] = file
    return files


def _provenance(files: dict[str, Path]) -> dict:
    import torch

    from delightsam_pipeline.inference.model_folder import sha256

    digests = {name: sha256(file) for name, file in files.items()}
    by_digest: dict[str, str] = {}
    for name, value in digests.items():
        if by_digest.setdefault(value, name) != name:
            log.warning("the files of %s and %s are the same: so will their controllers be", by_digest[value], name)
    return {
        "package": f"delightsam-pipeline {__version__}",
        "torch": torch.__version__,
        "source": f"checkpoints of De-LightSAM's authors ({_REPOSITORY})",
        "checkpoints": {name: {"file": file.name, "sha256": digests[name]} for name, file in files.items()},
        "weights_licence": _LICENCE,
        "intended_use": "research; not for clinical use",
    }


main = command(parser, _work)

if __name__ == "__main__":
    sys.exit(main())
