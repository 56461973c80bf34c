"""dlsam_plan_and_preprocess: look at raw datasets, write a plan for each, and preprocess them for training."""

from __future__ import annotations

import sys
from pathlib import Path

from delightsam_pipeline.commands.common import Parser, command, folder, gigabytes, log, positive, split_datasets
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
    p.add_argument("--workers", type=positive, help="cases read at once (default: by cores and amount of data)")
    p.add_argument("--plan-only", action="store_true", help="write fingerprint, plan and splits, and no store")
    return p


def _work(args) -> None:
    root: Path = args.output or preprocessed_root()
    for name in split_datasets(args.dataset):
        _one(_raw_folder(name), root, args)


def _raw_folder(name: str) -> Path:
    """The raw dataset's folder; folders of images and masks without a dataset.json get one."""
    from delightsam_pipeline.data.proposal import pair_of_folders, propose

    if pair_of_folders(Path(name)) is not None:
        return propose(Path(name))
    return find_dataset(name, raw_roots())


def _one(raw: Path, root: Path, args) -> None:
    from delightsam_pipeline.data.dataset import load_dataset
    from delightsam_pipeline.plans.plan import table
    from delightsam_pipeline.preprocessing.run import plan_dataset, preprocess

    dataset = load_dataset(raw)
    target = root / dataset.name
    log.info("%s: %d training cases in %s", dataset.name, len(dataset.cases), raw)
    plan = plan_dataset(dataset, target, args.modality, args.gpu_memory, args.workers)
    log.info("%s", table(plan))
    if args.plan_only:
        log.info("plan written to %s", target / "plan.json")
        return
    done = preprocess(dataset, plan, target, args.workers)
    kept = len(dataset.cases) - done
    log.info("%d cases preprocessed, %d kept from before, in %s", done, kept, target)
    log.info("next: dlsam_train %s 0\n", target if args.output else dataset.name)


main = command(parser, _work)

if __name__ == "__main__":
    sys.exit(main())
