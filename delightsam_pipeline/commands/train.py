"""dlsam_train DATASET FOLD: train one model on one or several preprocessed datasets."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from delightsam_pipeline.commands.common import (
    TERMINATED,
    Parser,
    Stop,
    command,
    count,
    duration,
    folder,
    gigabytes,
    log,
    positive,
    split_datasets,
)
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.locks import only_one
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
        "--pretrained", type=folder, metavar="FILE", help="start from MobileSAM, SAM, a release or our model"
    )
    p.add_argument(
        "--add-to",
        type=folder,
        metavar="MODEL",
        help="add DATASET to this trained model; what its other heads compute stays the same, bit for bit",
    )
    p.add_argument(
        "--teacher",
        metavar="FILE",
        help="distil from SAM ViT-B, L or H (a file), or from a wider network of our own trained first (wide)",
    )
    p.add_argument("--no-refinement", action="store_true", help="with --teacher: end with the distilled controllers")
    p.add_argument(
        "--feature-cache",
        type=partial(gigabytes, least=0),
        metavar="GB",
        help="with --teacher: disk space for its features while they are learned (2; 0 for none)",
    )
    p.add_argument("--seed", type=count, default=12345, help="of weights and of the order of the data (12345)")
    p.add_argument("--workers", type=count, help="loader processes (default: by cores; 0 loads in the process itself)")
    p.add_argument("--compile", action="store_true", help="compile the network with torch.compile, where that works")
    p.add_argument("--tensorboard", action="store_true", help="also write the curves for TensorBoard (an extra)")
    p.add_argument("--restart", action="store_true", help="begin anew, even if a run stands there")
    p.add_argument(
        "-o", "--output", type=folder, help="folder of the model (default: $DLSAM_HOME/results/DATASET/fold_FOLD)"
    )
    return p


def _work(args) -> int:
    for one, other in (("epochs", "time_budget"), ("add_to", "pretrained"), ("add_to", "teacher")):
        if getattr(args, one) is not None and getattr(args, other) is not None:
            names = f"--{one} and --{other}".replace("_", "-")
            raise UserError(f"{names} exclude each other", fix="give one of them")
    for option, given in (("--no-refinement", args.no_refinement), ("--feature-cache", args.feature_cache is not None)):
        if given and args.teacher is None:
            raise UserError(f"{option} does nothing without --teacher", fix="leave it out, or give --teacher")
    folders = [_preprocessed(name) for name in split_datasets([args.dataset])]
    if len({f.name for f in folders}) < len(folders):
        raise UserError("two of the datasets have the same name", found=", ".join(map(str, folders)))
    with ExitStack() as held:
        for store in folders:
            held.enter_context(only_one(store, "dlsam_train, which reads it", shared=True))
        return _run(args, folders, held)


def _run(args, folders: list[Path], held: ExitStack) -> int:
    """Train on preprocessed datasets that stay as they are meanwhile; `held` gets the model's folder as well."""
    from delightsam_pipeline.preprocessing.store import Store

    stores = {f.name: Store.load(f) for f in folders}
    target: Path = args.output or results_root() / _name(args.add_to, list(stores)) / f"fold_{args.fold}"

    from delightsam_pipeline.inference.device import choose_device
    from delightsam_pipeline.training.folder import StopFile
    from delightsam_pipeline.training.ranks import joined, said_once

    ranks = _ranks(args)
    device = choose_device(args.device, ranks.local if ranks.size > 1 else None)
    options = _options(args, device.loader_workers(ranks.local_size) if args.workers is None else args.workers)
    if ranks.is_first:
        held.enter_context(only_one(target, "dlsam_train"))
    held.enter_context(joined(ranks, device.torch))
    where = device.reason if ranks.size == 1 else f"{device.reason}, one of {ranks.size} processes"
    log.info("training %s, fold %s, on %s, into %s", " + ".join(stores), args.fold, where, target)
    with said_once(ranks), Stop() as signals, StopFile(target) as file:
        train = partial(_train, ranks) if args.teacher is None else partial(_distil, args)
        finished = train(stores, target, options, device, lambda: signals() or file())
    if not finished:
        log.info("stopped and saved; the same command goes on")
        return signals.code or TERMINATED
    log.info("model in %s\nnext: dlsam_predict -i IMAGES -o OUTPUT -m %s", target, shlex.quote(str(target)))
    return 0


def _ranks(args):
    """The processes that train. Raises UserError where there may be but one."""
    from delightsam_pipeline.training.ranks import launched

    ranks = launched()
    if ranks.size > 1 and args.teacher is not None:
        raise UserError("--teacher trains in one process", found=ranks.size, fix="start one, without torchrun")
    if not ranks.is_first:
        logging.getLogger("delightsam_pipeline").setLevel(logging.ERROR)  # the first says it for all
    return ranks


def _options(args, workers: int):
    """What the training is told. Raises UserError when TensorBoard is asked for and not installed."""
    from delightsam_pipeline.training.board import require_tensorboard
    from delightsam_pipeline.training.setup import Options

    if args.tensorboard:
        require_tensorboard()
    return Options(
        fold=args.fold,
        epochs=args.epochs,
        seconds=args.time_budget,
        pretrained=args.pretrained,
        add_to=args.add_to,
        seed=args.seed,
        workers=workers,
        restart=args.restart,
        tensorboard=args.tensorboard,
        compile=args.compile,
    )


def _train(ranks, stores, target: Path, options, device, stop: Callable[[], bool]) -> bool:
    from delightsam_pipeline.training.loop import train
    from delightsam_pipeline.training.setup import start

    run = start(stores, target, options, device, ranks=ranks)
    if run.progress.step:
        log.info("going on after epoch %d", run.progress.epoch)
    return train(run, stop)


def _distil(args, stores, target: Path, options, device, stop: Callable[[], bool]) -> bool:
    from delightsam_pipeline.training.distillation import Distillation, Teaching

    cache = {} if args.feature_cache is None else {"cache_bytes": args.feature_cache}
    teaching = Teaching(args.teacher, not args.no_refinement, **cache)
    return Distillation(stores, target, options, device, teaching, stop).run()


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
