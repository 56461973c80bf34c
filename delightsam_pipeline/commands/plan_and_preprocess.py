"""dlsam_plan_and_preprocess: look at raw datasets, write a plan for each, and preprocess them for training."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from delightsam_pipeline.commands.common import Parser, command, folder, gigabytes, log, positive, split_datasets
from delightsam_pipeline.errors import UserError, all_problems
from delightsam_pipeline.locks import only_one
from delightsam_pipeline.paths import find_dataset, preprocessed_root, raw_roots


def parser() -> Parser:
    """The command's options."""
    p = Parser("Inspect raw datasets, plan everything (each choice with its reason) and preprocess for training.")
    p.add_argument(
        "-d",
        "--dataset",
        nargs="+",
        required=True,
        metavar="DATASET",
        help="id, name or folder of raw datasets in nnU-Net v2's format (searched in $DLSAM_HOME/raw and $nnUNet_raw)",
    )
    p.add_argument("--modality", help="CT, MRI, ultrasound, dermoscopy ... or a name of your own; else from the data")
    p.add_argument("-o", "--output", type=folder, help="where to write (default: $DLSAM_HOME/preprocessed)")
    p.add_argument("--gpu-memory", type=gigabytes, default=8e9, metavar="GB", help="memory the batch must fit (8)")
    p.add_argument("--max-size", type=_side, metavar="N", help="no side of the network's input beyond N pixels")
    p.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="DECISION=VALUE",
        help="decide in the planner's place, for instance patch_size=448x448; may be repeated",
    )
    p.add_argument(
        "--plans-from",
        metavar="MODEL",
        help="plan for fine-tuning: the scale of a trained model (folder, MODEL:HEAD) or a plan.json (or its folder)",
    )
    p.add_argument(
        "--workers", type=positive, help="worker processes at most (default: by cores, free memory and amount of data)"
    )
    p.add_argument(
        "--fix-geometry",
        action="store_true",
        help="resample masks that lie on another grid than their image, in the same space; each is told",
    )
    p.add_argument("--plan-only", action="store_true", help="write fingerprint, plan and splits, and no store")
    p.add_argument("--no-report", action="store_true", help="leave out report.html, the page of pictures and charts")
    return p


def _side(text: str) -> int:
    """A side of the network's input, for argparse."""
    if positive(text) % 32:
        raise argparse.ArgumentTypeError(f"'{text}' is not a multiple of 32")
    return int(text)


def _work(args) -> None:
    from delightsam_pipeline.plans.finetuning import Pretrained
    from delightsam_pipeline.plans.overrides import parse_overrides

    root: Path = args.output or preprocessed_root()
    args.overrides = parse_overrides(args.overrides)
    args.plans_from = args.plans_from and Pretrained.find(args.plans_from)
    modality = args.modality or args.overrides.get("modality")
    folders = [_raw_folder(name, modality) for name in split_datasets(args.dataset)]
    problems = []
    for raw in folders:
        try:
            _one(raw, root, args)
        except UserError as error:  # the others are looked at all the same
            problems.append(error)
            if raw != folders[-1]:
                log.error("%s\n", error)
    if problems:
        raise all_problems(problems, f"{len(folders)} datasets")


def _raw_folder(name: str, modality: str | None) -> Path:
    """The raw dataset's folder; folders of images and masks without a dataset.json get one."""
    from delightsam_pipeline.data.proposal import pair_of_folders, propose

    if pair_of_folders(Path(name)) is not None:
        return propose(Path(name), modality)
    return find_dataset(name, raw_roots())


def _one(raw: Path, root: Path, args) -> None:
    from delightsam_pipeline.data.dataset import load_dataset

    dataset = load_dataset(raw, args.fix_geometry)
    log.info("%s: %d training cases in %s", dataset.name, len(dataset.cases), raw)
    with only_one(root / dataset.name, "dlsam_plan_and_preprocess"):
        _fill(dataset, root / dataset.name, args)


def _fill(dataset, target: Path, args) -> None:
    """Plan a dataset and preprocess it into a folder that nobody else works on."""
    from delightsam_pipeline.plans.plan import table
    from delightsam_pipeline.preprocessing.run import plan_dataset, preprocess

    plan = plan_dataset(
        dataset,
        target,
        args.modality,
        args.gpu_memory,
        args.workers,
        max_size=args.max_size,
        overrides=args.overrides,
        plans_from=args.plans_from,
    )
    log.info("%s", table(plan))
    if args.plan_only:
        log.info("plan written to %s", target / "plan.json")
        return
    done = preprocess(dataset, plan, target, args.workers)
    kept = len(dataset.cases) - done
    log.info("%d cases preprocessed, %d kept from before, in %s", done, kept, target)
    train = str(target) if args.output else dataset.name
    if not args.no_report:
        from delightsam_pipeline.preprocessing.report.page import write_report

        log.info("report: %s", write_report(dataset, target, train))
    log.info("next: dlsam_train %s 0\n", shlex.quote(train))


main = command(parser, _work)

if __name__ == "__main__":
    sys.exit(main())
