"""dlsam_train DATASET FOLD: train one model on one or several preprocessed datasets."""

from __future__ import annotations

import sys
from pathlib import Path

from delightsam_pipeline.commands.common import (
    Parser,
    Stop,
    command,
    count,
    duration,
    folder,
    log,
    positive,
    split_datasets,
)
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.paths import find_dataset, preprocessed_root, results_root


def parser() -> Parser:
    """The command's options."""
    p = Parser("Train De-LightSAM. A stopped run goes on where it was when the command is given again.")
    p.add_argument(
        "dataset", metavar="DATASET", help="id, name or preprocessed folder; join several with + for one model"
    )
    p.add_argument("fold", metavar="FOLD", help="0 to 4, or all to train on every case")
    p.add_argument("--epochs", type=positive, help="length in epochs (default: the plan's)")
    p.add_argument("--time-budget", type=duration, metavar="TIME", help="length by the clock instead: 90s, 20m, 1.5h")
    p.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    p.add_argument(
        "--pretrained", type=folder, metavar="FILE", help="start from mobile_sam.pt, a release or our weights"
    )
    p.add_argument(
        "--add-to",
        type=folder,
        metavar="MODEL",
        help="add DATASET to this trained model; what its other heads compute stays the same, bit for bit",
    )
    p.add_argument("--seed", type=count, default=12345, help="of weights and of the order of the data (12345)")
    p.add_argument("--workers", type=count, help="loader processes (default: by cores; 0 loads in the process itself)")
    p.add_argument("--restart", action="store_true", help="begin anew, even if a run stands there")
    p.add_argument(
        "-o", "--output", type=folder, help="folder of the model (default: $DLSAM_HOME/results/DATASET/fold_FOLD)"
    )
    return p


def _work(args) -> int:
    if args.epochs is not None and args.time_budget is not None:
        raise UserError("--epochs and --time-budget exclude each other", fix="give one of them")
    if args.add_to is not None and args.pretrained is not None:
        raise UserError("--add-to and --pretrained exclude each other", fix="give one of them")
    folders = [_preprocessed(name) for name in split_datasets([args.dataset])]
    if len({f.name for f in folders}) < len(folders):
        raise UserError("two of the datasets have the same name", found=", ".join(map(str, folders)))

    from delightsam_pipeline.preprocessing.store import Store

    stores = {f.name: Store.load(f) for f in folders}
    target: Path = args.output or results_root() / _name(args.add_to, list(stores)) / f"fold_{args.fold}"

    from delightsam_pipeline.inference.device import choose_device
    from delightsam_pipeline.training.loop import train
    from delightsam_pipeline.training.setup import Options, start

    device = choose_device(args.device)
    workers = device.loader_workers() if args.workers is None else args.workers
    options = Options(
        args.fold, args.epochs, args.time_budget, args.pretrained, args.add_to, args.seed, workers, args.restart
    )
    training_run = start(stores, target, options, device)
    log.info("training %s, fold %s, on %s, into %s", " + ".join(stores), args.fold, device.reason, target)
    if training_run.progress.step:
        log.info("going on after epoch %d", training_run.progress.epoch)
    with Stop() as stop:
        finished = train(training_run, stop)
    if not finished:
        log.info("stopped and saved; the same command goes on")
        return stop.code
    log.info("model in %s\nnext: dlsam_predict -i IMAGES -o OUTPUT -m %s", target, target)
    return 0


def _name(model: Path | None, datasets: list[str]) -> str:
    """The results folder's name: the datasets, after those of the model that they are added to."""
    if model is None:
        return "+".join(datasets)
    model = model.resolve()
    return "+".join([model.parent.name if model.name.startswith("fold_") else model.name, *datasets])


def _preprocessed(name: str) -> Path:
    fix = f"preprocess it first: dlsam_plan_and_preprocess -d {name}"
    return find_dataset(name, [preprocessed_root()], "preprocessed dataset", fix, "plan.json")


main = command(parser, _work)

if __name__ == "__main__":
    sys.exit(main())
