"""dlsam_convert INPUT -o DatasetXXX_Name: images and masks as they are kept elsewhere, as a raw dataset."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from delightsam_pipeline.commands.common import Parser, command, folder, log
from delightsam_pipeline.commands.new_folder import add_output, require_dataset_name, require_new
from delightsam_pipeline.errors import UserError, listed

_MOST_NAMES, _MOST_GROUPS = 5, 6


def parser() -> Parser:
    """The command's options."""
    p = Parser(
        "Turn images and masks into a raw dataset in nnU-Net v2's format. Files are copied byte for byte; DICOM "
        "becomes NIfTI."
    )
    p.add_argument(
        "input",
        nargs="*",
        type=folder,
        metavar="INPUT",
        help="a folder with images/ and labels/ or masks/, a Medical Decathlon or nnU-Net v1 dataset, a CSV of paths, "
        "a folder of images, or folders of DICOM series in any depth; which of them is seen from the content",
    )
    add_output(p, "DatasetXXX_Name")
    p.add_argument("--images", type=folder, metavar="DIR", help="folder of images, the same as INPUT")
    p.add_argument("--masks", type=folder, metavar="DIR", help="folder of masks, called as the cases are")
    p.add_argument(
        "--csv",
        type=folder,
        metavar="FILE",
        help="CSV of paths, the same as INPUT: columns image (or image_0, image_1 ...) and mask, and, if wanted, case, "
        "group, split (train or test), modality",
    )
    p.add_argument("--modality", help="CT, MRI, ultrasound, dermoscopy ... or a name of your own; else as INPUT says")
    p.add_argument(
        "--channel-names",
        nargs="+",
        metavar="NAME",
        help="of the image channels, such as T1 FLAIR (else as INPUT says)",
    )
    p.add_argument(
        "--labels",
        nargs="+",
        type=_label,
        metavar="NAME",
        help="of the classes in the order of their values in the masks, or NAME=VALUE for each, a VALUE being a number "
        "or a colour such as #ff0000 (else as INPUT says, or label_1, label_2 ...)",
    )
    p.add_argument("--link", choices=("hard", "symbolic"), help="make links instead of copies where that is possible")
    p.add_argument("--dry-run", action="store_true", help="show the cases and the dataset.json, and write nothing")
    return p


def _label(text: str) -> tuple[str, str | None]:
    """NAME or NAME=VALUE, for argparse."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not name or (equals and not re.fullmatch(r"\d+|#[0-9a-fA-F]{6}", value, re.ASCII)):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME or NAME=VALUE, such as liver, liver=2, liver=#ff0000")
    return name, value or None


def _work(args) -> None:
    sources = _sources(args)
    require_new(args.output)
    _require_outside(args.output, [*sources, *filter(None, [args.masks])])
    require_dataset_name(args.output)

    from delightsam_pipeline.data.convert import convert, plan_conversion
    from delightsam_pipeline.data.sources.recognise import recognise
    from delightsam_pipeline.plans.identification import DICOM_TAGS

    found = recognise(sources, args.masks)
    _require_outside(args.output, _folders(found, sources))
    log.info("recognised: %s in %s", found.layout, found.place)
    labels = dict(args.labels or ())
    if len(labels) < len(args.labels or ()):
        raise UserError("--labels names a class twice", found=" ".join(name for name, _ in args.labels))
    conversion = plan_conversion(found, args.modality, args.channel_names, labels, DICOM_TAGS)
    _tell(conversion, args.dry_run)
    if args.dry_run:
        log.info("nothing was written (--dry-run)")
        return
    copied = convert(conversion, args.output, args.link)
    if copied:
        log.warning("%d files could not be linked to and were copied", copied)
    log.info("written to %s; check the names in its dataset.json", args.output)
    log.info("what was copied was not looked into: the next command reads every case and tells what is damaged")
    log.info("next: dlsam_plan_and_preprocess -d %s", shlex.quote(str(args.output)))


def _sources(args) -> list[Path]:
    given = [source for source in (args.input, [args.images], [args.csv]) if source and source != [None]]
    if len(given) != 1:
        fix = "give one of INPUT, --images DIR and --csv FILE"
        raise UserError("there is nothing to convert" if not given else "the source is given twice", fix=fix)
    return given[0]


def _require_outside(output: Path, sources: Iterable[Path]) -> None:
    for source in sources:
        if output.resolve().is_relative_to(source.resolve()):
            raise UserError("lies in the source, which is never changed", file=output, fix="choose another -o")


def _folders(found, sources: Sequence[Path]) -> set[Path]:
    """Where the cases' files lie, but for folders that also hold the table which lists them: an output may go there."""
    files = {path for case in (*found.train, *found.test) for path in (*case.images, case.label) if path is not None}
    folders = {path if path.is_dir() else path.parent for path in files}
    tables = [source.resolve() for source in sources if source.is_file()]
    return {folder for folder in folders if not any(table.is_relative_to(folder.resolve()) for table in tables)}


def _tell(conversion, with_cases: bool) -> None:
    """What will be made: the counts, the cases if wanted, the dataset.json."""
    found, entries = conversion.found, conversion.entries
    log.info("%d cases for training, %d for testing", len(found.train), len(found.test))
    alone = [case.name for case in found.test if case.label is None]
    if alone:
        log.info("without a mask, so in imagesTs: %s", listed(alone, _MOST_NAMES))
    if conversion.decoded:
        log.info("%d files are made anew out of DICOM; nothing but values and geometry is kept", conversion.decoded)
    if with_cases:
        for case in (*found.train, *found.test):
            log.info("%s", "\n".join(f"  {step.source} -> {step.target}" for step in conversion.steps[case.name]))
    groups = entries.get("group", {})
    short = {"group": dict(list(groups.items())[:_MOST_GROUPS])} if groups else {}
    text = json.dumps(entries | short, indent=1, ensure_ascii=False)
    log.info("proposed dataset.json:\n%s", text)
    if len(groups) > _MOST_GROUPS:
        log.info("(%d cases in 'group' are not shown)", len(groups) - _MOST_GROUPS)


main = command(parser, _work)

if __name__ == "__main__":
    sys.exit(main())
