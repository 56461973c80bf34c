"""dlsam_predict -i IN -o OUT: segment a file or a folder with a trained model."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from delightsam_pipeline import __version__
from delightsam_pipeline.commands.common import Parser, command, folder, log, positive
from delightsam_pipeline.commands.models import find_models
from delightsam_pipeline.errors import SomeCasesFailed, UserError, all_problems
from delightsam_pipeline.files import make_folder, write_json


def parser() -> Parser:
    """The command's options."""
    p = Parser(
        "Segment images with a trained model; masks come on the grid and in the format of their images, but as PNG for "
        "JPEG and GIF, and as NIfTI for DICOM."
    )
    p.add_argument("-i", "--input", type=folder, required=True, help="an image, a DICOM series, or a folder of them")
    p.add_argument("-o", "--output", type=folder, required=True, help="a file for one image, or a folder")
    p.add_argument("-m", "--model", type=folder, help="model folder (default: the one that has been trained)")
    p.add_argument("-d", "--dataset", help="choose the model trained on this DATASET")
    p.add_argument(
        "-f",
        "--fold",
        nargs="+",
        help="folds whose models predict, averaged if several (default: one, fold all or else the lowest)",
    )
    p.add_argument("--head", help="for a model of several datasets: dataset or modality of these images")
    p.add_argument(
        "--checkpoint", choices=("final", "best"), default="final", help="weights at the end, or best validated"
    )
    p.add_argument(
        "--no-postprocessing", action="store_true", help="leave masks as the network gives them, whatever was chosen"
    )
    p.add_argument("--batch-size", type=positive, default=8, help="slices at once (8)")
    p.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    return p


def _work(args) -> None:
    if not args.input.exists():
        raise UserError("does not exist", file=args.input, expected="an image or a folder of images")
    if args.input.is_dir() and args.output.resolve() == args.input.resolve():
        raise UserError("is the folder of the images", file=args.output, fix="choose another -o")
    models = find_models(args.model, args.dataset, args.fold)

    from delightsam_pipeline.inference.predictor import Predictor

    checkpoint = "best" if args.checkpoint == "best" else "model"
    predictor = Predictor.load(models, args.device, checkpoint, args.batch_size, not args.no_postprocessing)
    head = predictor.head(args.head)
    log.info("model %s, head %s, on %s", ", ".join(map(str, models)), head, predictor.device.reason)
    rules = _rules(predictor, head)
    for name, text in rules.items():
        log.info("post-processing of %s: %s", name, text)
    jobs, target = _jobs(args, predictor.plans[head])
    if len(models) > 1:
        log.info("%d networks: about %d times the time of one fold", len(models), len(models))
    weights = [folder / f"{checkpoint}.safetensors" for folder in models]
    record = _record(weights, head, predictor.device.reason, rules)
    failures = _predict(predictor, head, jobs, record)
    if target is not None:
        write_json(target / "run.json", record)
    log.info("%d of %d cases written to %s", len(jobs) - len(failures), len(jobs), args.output)
    if failures:
        kind = UserError if len(failures) == len(jobs) else SomeCasesFailed
        raise all_problems(failures, f"{args.input} ({len(jobs)} cases)", kind)


def _jobs(args, plan) -> tuple[list[tuple], Path | None]:
    """(case, output file) of everything to do, and the output folder if it is one."""
    from delightsam_pipeline.data.cases import input_cases
    from delightsam_pipeline.data.formats import known_ending, output_ending

    cases = input_cases(args.input, len(plan.channel_names))
    single = known_ending(args.output) is not None and not args.output.is_dir()
    if single and cases[0].images[0] != args.input:  # one case may be a folder itself: a DICOM series
        raise UserError("is a file's name, but the input is a folder", file=args.output, fix="give a folder with -o")
    if not single:
        make_folder(args.output)
    jobs = []
    for case in cases:
        ending = output_ending(case.images[0])
        output = args.output if single else args.output / (case.name + ending)
        if output.resolve() in {path.resolve() for path in case.images}:
            raise UserError("the mask would be written over its image", file=output, fix="choose another -o")
        if output.exists() and output.resolve().parent in {path.resolve().parent for path in case.images}:
            raise UserError("lies beside the images and would be overwritten", file=output, fix="choose another -o")
        if known_ending(output) != ending:
            raise UserError("has the wrong ending for a mask of this image", file=output, expected=ending)
        jobs.append((case, output))
    return jobs, None if single else args.output


def _predict(predictor, head: str, jobs: list[tuple], record: dict) -> list[UserError]:
    from tqdm import tqdm

    failures = []
    for case, output in tqdm(jobs, desc="predict", disable=None, unit="case"):
        begin = time.monotonic()
        try:
            predictor.predict_files(case.images, output, head)
        except UserError as error:
            failures.append(error)
            record["cases"][case.name] = {"error": str(error)}
            continue
        record["cases"][case.name] = {"file": output.name, "seconds": round(time.monotonic() - begin, 3)}
    return failures


def _rules(predictor, head: str) -> dict[str, str]:
    """What is done to the masks of a head, per class and in words."""
    from delightsam_pipeline.evaluation.postprocessing import rule_text

    chosen = predictor.postprocessing.get(head)
    return {name: rule_text(rule, chosen.unit) for name, rule in chosen.rules.items()} if chosen else {}


def _record(weights: list[Path], head: str, device: str, postprocessing: dict[str, str]) -> dict:
    import torch

    from delightsam_pipeline.inference.model_folder import sha256

    return {
        "package": f"delightsam-pipeline {__version__}",
        "torch": torch.__version__,
        "weights": [{"file": str(file), "sha256": sha256(file)} for file in weights],
        "head": head,
        "device": device,
        "postprocessing": postprocessing,
        "intended_use": "research; not for clinical use",
        "cases": {},
    }


main = command(parser, _work)

if __name__ == "__main__":
    sys.exit(main())
