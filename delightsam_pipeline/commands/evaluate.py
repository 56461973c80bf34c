"""dlsam_evaluate REFERENCE PREDICTION: score predicted masks against reference masks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from delightsam_pipeline.commands.common import Parser, command, count, folder, log
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import write_json
from delightsam_pipeline.paths import find_dataset, raw_roots


def parser() -> Parser:
    """The command's options."""
    p = Parser("Score predicted masks against reference masks, per case and class, at the images' own grids.")
    p.add_argument("reference", type=folder, help="folder of reference masks, such as labelsTs")
    p.add_argument("prediction", type=folder, help="folder of predicted masks with the same case names")
    p.add_argument("-d", "--dataset", help="DATASET whose dataset.json names the labels (default: beside REFERENCE)")
    p.add_argument("-o", "--output", type=folder, help="summary file (default: PREDICTION/summary.json)")
    p.add_argument("--images", type=folder, help="images for the overlays (default: imagesTs for labelsTs, and so on)")
    p.add_argument("--worst", type=count, default=8, help="how many of the worst cases to draw (8; 0 for none)")
    return p


def _work(args) -> None:
    from delightsam_pipeline.evaluation.folders import evaluate_folders
    from delightsam_pipeline.evaluation.overlays import write_sheet
    from delightsam_pipeline.evaluation.summary import table, worst_cases

    dataset = find_dataset(args.dataset, raw_roots()) if args.dataset else args.reference.resolve().parent
    labels, channels = _definitions(dataset / "dataset.json")
    summary = evaluate_folders(args.reference, args.prediction, labels)
    output = args.output or args.prediction / "summary.json"
    write_json(output, summary)
    log.info("%s\nscores of every case in %s", table(summary), output)
    reference = Path(os.path.abspath(args.reference))
    images = args.images or reference.parent / reference.name.replace("labels", "images")
    if args.worst and images.is_dir() and images != reference:
        drawn = panels(worst_cases(summary, args.worst), images, channels, labels.ignore)
        picture = output.with_name("worst_cases.png")
        if drawn:
            write_sheet(picture, drawn)
            log.info("pictures of the worst cases in %s", picture)


def _definitions(file: Path) -> tuple:
    """Labels and number of channels of a dataset.json, whether or not its images are there."""
    from delightsam_pipeline.data.dataset import load_definitions

    if not file.is_file():
        raise UserError("does not exist", file=file, fix="name the dataset with -d, so that its labels are known")
    definitions = load_definitions(file)
    return definitions.labels, len(definitions.channel_names)


def panels(cases: Sequence[tuple], images: Path, channels: int, ignore: int | None) -> list[tuple]:
    """(title, picture) of cases as `worst_cases` gives them, for those whose image is in the folder `images`.

    What cannot be drawn is left out with a warning.
    """
    from delightsam_pipeline.data.dataset import input_cases

    try:
        files = {case.name: case.images for case in input_cases(images, channels)}
    except (UserError, OSError) as error:
        log.warning("no pictures: %s", error)
        return []
    drawn = []
    for name, dice, row in cases:
        if name in files:
            try:
                drawn.append((f"Dice {dice:.3f}", _panel(name, files[name], row, ignore)))
            except (UserError, OSError) as error:
                log.warning("no picture of case %s: %s", name, error)
    return drawn


def _panel(name: str, files: tuple[Path, ...], row: dict, ignore: int | None):
    from delightsam_pipeline.data.formats import read_case, read_labels
    from delightsam_pipeline.evaluation.overlays import case_panel

    image, reference = read_case(files), read_labels(Path(row["reference_file"]))
    prediction = read_labels(Path(row["prediction_file"]))
    shape, expected = image.array.shape[1:], reference.array.shape[1:]
    if shape != expected:
        raise UserError("has another size than its masks", file=files[0], expected=expected, found=shape)
    return case_panel(image.array, prediction.array[0], reference.array[0], name, image.grid.spacing[1:], ignore)


main = command(parser, _work)

if __name__ == "__main__":
    sys.exit(main())
