"""dlsam_evaluate REFERENCE PREDICTION: score predicted masks against reference masks; -d DATASET: over its folds."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from delightsam_pipeline.commands.common import Parser, command, count, folder, log
from delightsam_pipeline.commands.cross_validation import cross_validate
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import write_json
from delightsam_pipeline.paths import find_dataset, raw_roots

_FILE, _WORST = "dataset.json", 8


def parser() -> Parser:
    """The command's options."""
    p = Parser(
        "Score predicted masks against reference masks, per case and class, at the images' own grids. With -d DATASET "
        "alone, put the validations of the folds that were trained on it together, and choose the post-processing "
        "that dlsam_predict applies."
    )
    p.add_argument("reference", nargs="?", type=folder, help="folder of reference masks, such as labelsTs")
    p.add_argument("prediction", nargs="?", type=folder, help="folder of predicted masks with the same case names")
    p.add_argument(
        "-d",
        "--dataset",
        help="DATASET whose dataset.json names the labels (default: beside REFERENCE); alone: whose folds to join",
    )
    p.add_argument(
        "-o", "--output", type=folder, help="summary file (default: PREDICTION/summary.json, or summary_paper.json)"
    )
    p.add_argument(
        "--against",
        type=folder,
        metavar="OTHER",
        help="folder of another method's masks of the same cases, to compare with case by case",
    )
    p.add_argument("--tolerance", type=_tolerance, help="how far surfaces may differ for NSD, mm or pixels (2)")
    p.add_argument(
        "--protocol", choices=("paper",), help="paper: the authors' measures at 1024 x 1024, for comparison only"
    )
    p.add_argument("--images", type=folder, help="images for the overlays (default: imagesTs for labelsTs, and so on)")
    p.add_argument("--worst", type=count, help="how many of the worst cases to draw (8; 0 for none)")
    p.add_argument(
        "--no-postprocessing", action="store_true", default=None, help="with -d alone: choose no post-processing"
    )
    p.add_argument(
        "--device", help="with -d alone: what predicts held-out cases: auto (default), cpu, cuda, cuda:1, mps"
    )
    return p


def _tolerance(text: str) -> float:
    """A distance from 0 on, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a distance from 0 on")
    return value


def _work(args) -> None:
    if args.reference is None:
        _refuse(args, "the folds of a dataset", "output", "against", "tolerance", "protocol", "images", "worst")
        if args.dataset is None:
            fix = "give REFERENCE and PREDICTION, or -d DATASET to put its folds together"
            raise UserError("there is nothing to evaluate", fix=fix)
        cross_validate(args.dataset, not args.no_postprocessing, args.device or "auto")
        return
    _refuse(args, "REFERENCE", "no_postprocessing", "device")
    if args.prediction is None:
        raise UserError("the folder of predicted masks is missing", fix="give REFERENCE and PREDICTION")
    if args.output is not None and args.output.suffix != ".json":
        raise UserError("is no name for a summary", file=args.output, expected="a file that ends in .json")
    file = (find_dataset(args.dataset, raw_roots()) if args.dataset else args.reference.resolve().parent) / _FILE
    if args.protocol is not None:
        _refuse(args, "--protocol paper", "against", "tolerance", "images", "worst")
        _paper(args, _definitions(file))
    else:
        _scores(args, _definitions(file))


def _refuse(args, what: str, *names: str) -> None:
    """An option that would do nothing is an error."""
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None]
    if given:
        raise UserError(f"{given[0]} does not go with {what}", fix=f"leave out {' and '.join(given)}")


def _paper(args, known) -> None:
    from delightsam_pipeline.evaluation.paper import paper_summary, paper_table

    summary = paper_summary(args.reference, args.prediction, known.labels, known.annotations)
    output = args.output or args.prediction / "summary_paper.json"
    write_json(output, summary)
    log.info("%s\nscores of every case in %s", paper_table(summary), output)


def _scores(args, known) -> None:
    from delightsam_pipeline.evaluation.comparison import compare, comparison_table
    from delightsam_pipeline.evaluation.folders import evaluate_folders
    from delightsam_pipeline.evaluation.surfaces import TOLERANCE
    from delightsam_pipeline.evaluation.tables import table, write_scores

    if args.images is not None and not args.images.is_dir():
        raise UserError("is not a folder of images", file=args.images)
    tolerance = TOLERANCE if args.tolerance is None else args.tolerance
    way = known.labels, tolerance, known.groups, known.annotations
    summary = evaluate_folders(args.reference, args.prediction, *way)
    if args.against is not None:
        other = evaluate_folders(args.reference, args.against, *way)
        summary["comparison"] = compare(summary, other, str(args.against))
    output = args.output or args.prediction / "summary.json"
    write_json(output, summary)
    scores = output.with_suffix(".csv") if args.output else output.with_name("scores.csv")
    write_scores(scores, summary)
    log.info("%s", table(summary))
    if args.against is not None:
        log.info("%s", comparison_table(summary))
    log.info("scores of every case in %s and %s", output, scores.name)
    _draw(args, summary, output, known)


def _draw(args, summary: dict, output: Path, known) -> None:
    from delightsam_pipeline.evaluation.overlays import write_sheet
    from delightsam_pipeline.evaluation.summary import worst_cases

    most = _WORST if args.worst is None else args.worst
    reference = Path(os.path.abspath(args.reference))
    images = args.images or reference.parent / reference.name.replace("labels", "images")
    if most and images.is_dir() and images != reference:
        drawn = panels(worst_cases(summary, most), images, known)
        picture = output.with_suffix(".png") if args.output else output.with_name("worst_cases.png")
        if drawn:
            write_sheet(picture, drawn)
            log.info("pictures of the worst cases in %s", picture)


def _definitions(file: Path):
    """What a dataset.json declares, whether or not its images are there."""
    from delightsam_pipeline.data.dataset import load_definitions

    if not file.is_file():
        raise UserError("does not exist", file=file, fix="name the dataset with -d, so that its labels are known")
    return load_definitions(file)


def panels(cases: Sequence[tuple], images: Path, known, longest: int = 512) -> list[tuple]:
    """(title, picture) of cases as `worst_cases` gives them, for those whose image is in the folder `images`.

    known : the dataset's Definitions. longest : pixels that the longer side of a slice has at most.

    What cannot be drawn is left out with a warning.
    """
    from delightsam_pipeline.data.cases import input_cases

    try:
        files = {case.name: case.images for case in input_cases(images, len(known.channel_names))}
    except (UserError, OSError) as error:
        log.warning("no pictures: %s", error)
        return []
    drawn = []
    for name, dice, row in cases:
        if name in files:
            try:
                drawn.append((f"Dice {dice:.3f}", _panel(name, files[name], row, known.labels, longest)))
            except (UserError, OSError) as error:
                log.warning("no picture of case %s: %s", name, error)
    return drawn


def _panel(name: str, files: tuple[Path, ...], row: dict, labels, longest: int):
    from delightsam_pipeline.data.formats import read_case
    from delightsam_pipeline.data.masks import read_labels
    from delightsam_pipeline.evaluation.overlays import case_panel

    image, reference = read_case(files), read_labels(Path(row["reference_file"]), labels)
    prediction = read_labels(Path(row["prediction_file"]), replace(labels, codes=None), reference)
    shape, expected = image.array.shape[1:], reference.array.shape[1:]
    if shape != expected:
        raise UserError("has another size than its masks", file=files[0], expected=expected, found=shape)
    masks = prediction.array[0], reference.array[0]
    return case_panel(image.array, *masks, name, image.grid.spacing[1:], labels.ignore, longest)


main = command(parser, _work)

if __name__ == "__main__":
    sys.exit(main())
