"""dlsam_demo: the whole chain on generated images of four or eight modalities, one model for all of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from delightsam_pipeline.commands import evaluate, plan_and_preprocess, predict, train
from delightsam_pipeline.commands.common import Parser, command, duration, folder, log
from delightsam_pipeline.files import read_json

_PICTURE_SIDE = 320  # of a slice in overview.png, pixels: eight modalities fit on a screen's width, vessels are seen


def parser() -> Parser:
    """The command's options."""
    p = Parser(
        "Generate CT-like, MRI-like, ultrasound-like and photograph-like images, then plan, train, predict, score."
    )
    p.add_argument("--folder", type=folder, default=Path("demo"), help="where everything goes (./demo)")
    p.add_argument(
        "--all", action="store_true", help="also X-ray-like, fundus-like, microscopy-like and endoscopy-like images"
    )
    p.add_argument("--time-budget", type=duration, metavar="TIME", help="for training (4m, with --all 12m)")
    p.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    return p


def _work(args) -> int | None:
    from delightsam_pipeline.data.examples import DEMO_DATASETS, EXAMPLE_DATASETS, make_examples

    begin = time.monotonic()
    home = args.folder.resolve()
    os.environ["DLSAM_HOME"] = str(home)
    raw = make_examples(home / "raw", datasets=EXAMPLE_DATASETS if args.all else DEMO_DATASETS)
    log.info("generated %s in %s\n", ", ".join(f.name for f in raw), home / "raw")
    names = "+".join(f.name for f in raw)
    ids = [f.name.removeprefix("Dataset")[:3] for f in raw]
    _step(plan_and_preprocess.main, "dlsam_plan_and_preprocess", "-d", *ids)
    budget = f"{args.time_budget or (720 if args.all else 240):g}s"
    _step(train.main, "dlsam_train", "+".join(ids), "0", "--time-budget", budget, "--device", args.device)
    _step(evaluate.main, "dlsam_evaluate", "-d", "+".join(ids), "--device", args.device)
    model = home / "results" / names / "fold_0"
    for dataset, number in zip(raw, ids, strict=True):
        output = home / "predictions" / dataset.name
        images = ("-i", str(dataset / "imagesTs"), "-o", str(output))
        _step(predict.main, "dlsam_predict", *images, "--head", number, "--device", args.device)
        _step(evaluate.main, "dlsam_evaluate", str(dataset / "labelsTs"), str(output))
    _report(home, raw, model)
    log.info("done in %.0f s", time.monotonic() - begin)
    return None


def _step(command: Callable, name: str, *arguments: str) -> None:
    """Run one of our commands as a user would, saying which."""
    log.info("$ %s %s", name, " ".join(arguments))
    code = command(list(arguments))
    if code:
        sys.exit(code)


def _report(home: Path, raw: list[Path], model: Path) -> None:
    """Dice on the unseen cases of every dataset as a table, and pictures of two middling cases of each."""
    from delightsam_pipeline.data.dataset import load_definitions
    from delightsam_pipeline.evaluation.overlays import write_sheet
    from delightsam_pipeline.evaluation.summary import worst_cases

    rows, means, drawn = [], [], []
    for dataset in raw:
        summary = read_json(home / "predictions" / dataset.name / "summary.json")
        means.append(summary["foreground_mean"]["Dice"])
        for key, name in summary["classes"].items():
            mean = summary["mean"][key]
            rows.append(f"{dataset.name:<28} {name:<12} {mean['n_cases']:>5} {mean['Dice']:>7.3f}")
        count = len(summary["metric_per_case"])
        ranked = worst_cases(summary, count)
        middling = [ranked[count // 3], ranked[2 * count // 3]]
        file = dataset / "dataset.json"
        panels = evaluate.panels(middling, dataset / "imagesTs", load_definitions(file), _PICTURE_SIDE)
        drawn += [(f"{read_json(file)['modality']}-like, {title}", panel) for title, panel in panels]
    write_sheet(home / "overview.png", drawn, columns=len(middling))
    log.info("\n%-28s %-12s %5s %7s", "dataset (unseen cases)", "class", "cases", "Dice")
    log.info("%s", "\n".join(rows))
    log.info("%-28s %-12s %5s %7.3f", "mean over datasets", "", "", sum(means) / len(means))
    log.info("\npictures: %s and %s", home / "overview.png", home / "predictions/*/worst_cases.png")
    log.info("model, its curve and validation: %s", model)


main = command(parser, _work)

if __name__ == "__main__":
    sys.exit(main())
