"""dlsam_train against nnU-Net v2's 2D configuration: same folds, same machine, same training time.

    python benchmarks/against_nnunet.py --raw RAW --work WORK --nnunet BIN --fold 0,1 --seed 1,2 101 103
    python benchmarks/against_nnunet.py ... --cpus 0 --threads 1 --time-budget 40m 106

BIN is the bin folder of an environment with nnunetv2; without it ours run alone. Both train from nothing on the folds
of our store and are scored by dlsam_evaluate, on the images' own grids, from the label files that each wrote for the
held-out cases: ours by dlsam_predict, nnU-Net in its own validation. nnU-Net trains for the whole budget
(nnunet/timed_trainer.py) and validates after it; ours validates within it, so it trains for less. Writes a record of
every run to benchmarks/results/against_nnunet/; those that are there are not made again. training_tables.py makes a
table of them.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from argparse import Namespace
from pathlib import Path

from planning import adopt_orphans, measure
from real_datasets import measured
from runs import cost, held_out, linked, once, options, parse, prepared, raw_dataset, scores, trained

from delightsam_pipeline.commands.common import duration
from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.dataset import Dataset
from delightsam_pipeline.files import make_folder, read_json, write_json

KIND = "against_nnunet"


def scored(prediction: Path, dataset: Dataset, cases: list[Case], work: Path) -> dict:
    """Masks against those of the raw dataset, by dlsam_evaluate."""
    reference = linked(work / "reference", [case.label for case in cases if case.label is not None])
    summary = work / "summary.json"
    where = ("-d", str(dataset.folder), "-o", str(summary))
    measured("dlsam_evaluate", str(reference), str(prediction), *where, "--worst", "0")
    return scores(read_json(summary))


def ours(dataset: Dataset, fold: str, seed: int, work: Path, args: Namespace) -> dict:
    """Plan, train, predict the held-out images, score."""
    store, planning = prepared(dataset)
    cases, model = held_out(dataset, store, fold), work / "model"
    training = trained([store], fold, seed, model, args.device, "--time-budget", args.time_budget)
    images, masks = linked(work / "images", [file for case in cases for file in case.images]), work / "masks"
    where = ("-i", str(images), "-o", str(masks), "-m", str(model))
    predicting = measured("dlsam_predict", *where, "--device", args.device)
    figures = training | {"planning": planning, "predicting": cost(predicting)}
    return figures | {"scores": scored(masks, dataset, cases, work)}


def nnunet(dataset: Dataset, fold: str, seed: int, work: Path, args: Namespace) -> dict:
    """nnU-Net's preprocessing, training and validation of its 2D configuration in its own environment, scored by us."""
    cases = held_out(dataset, prepared(dataset)[0], fold)
    home, results = args.work / "nnunet", work / "results"
    environment = {
        "nnUNet_raw": str(make_folder(home / "raw")),
        "nnUNet_preprocessed": str(make_folder(home / "preprocessed")),
        "nnUNet_results": str(results),
        "nnUNet_extTrainer": str(Path(__file__).parent / "nnunet"),
        "nnUNet_def_n_proc": str(args.cores),
        "BUDGET_S": str(duration(args.time_budget)),
        "SEED": str(seed),
        "THREADS": str(args.threads),
    }
    device = nnunet_device(args)
    if device == "cpu":  # on one core a process of its own to augment only takes turns with training
        environment["nnUNet_n_proc_DA"] = "0" if args.cores == 1 else "1"
    planning = preprocessed(dataset, home, environment, args)
    folder = results / dataset.name / "TimedTrainer__nnUNetPlans__2d" / f"fold_{fold}"
    command = [args.nnunet / "nnUNetv2_train", dataset.name, "2d", fold, "-device", device, "-tr", "TimedTrainer"]
    if (folder / "timing.json").is_file():  # trained, and cut off in its validation
        command.append("--val")
    run = measure([str(part) for part in command], environment, work / "nnunet.log")
    figures = read_json(folder / "timing.json") | run | {"planning": planning, "nnunetv2": nnunet_version(args)}
    return figures | {"scores": scored(folder / "validation", dataset, cases, work)}


def preprocessed(dataset: Dataset, home: Path, environment: dict[str, str], args: Namespace) -> dict:
    """Have nnU-Net preprocess a dataset once, and give it our folds; what that cost."""
    folder, number = home / "preprocessed" / dataset.name, dataset.name.removeprefix("Dataset").split("_")[0]
    done = folder / "cost.json"
    if not done.is_file():
        raw = make_folder(home / "raw" / dataset.name)
        for name in ("imagesTr", "labelsTr"):
            if not (raw / name).is_symlink():
                (raw / name).symlink_to(dataset.folder / name)
        entries = read_json(dataset.folder / "dataset.json")
        entries.pop("modality", None)  # nnU-Net takes the length of this, which is ours, for the number of channels
        write_json(raw / "dataset.json", entries)
        program = str(args.nnunet / "nnUNetv2_plan_and_preprocess")
        processes = ["-npfp", str(args.cores), "-np", str(args.cores)]
        environment = environment | {"nnUNet_n_proc_DA": str(args.cores)}  # its planner wants at least one
        run = measure([program, "-d", number, "-c", "2d", *processes], environment, home / f"{dataset.name}.log")
        splits = read_json(Path(os.environ["DLSAM_HOME"]) / "preprocessed" / dataset.name / "splits_final.json")
        write_json(folder / "splits_final.json", splits)
        write_json(done, run)
    return read_json(done)


def nnunet_device(args: Namespace) -> str:
    """nnU-Net does not choose a device by itself."""
    if args.device != "auto":
        return args.device.split(":")[0]
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def nnunet_version(args: Namespace) -> str:
    code = "from importlib.metadata import version; print(version('nnunetv2'))"
    command = [str(args.nnunet / "python"), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    p = options(__doc__)
    p.add_argument("--nnunet", type=Path, metavar="BIN", help="bin folder of an environment with nnunetv2")
    p.add_argument("--time-budget", default="20m")
    p.add_argument("datasets", nargs="+")
    args = parse(p)
    adopt_orphans()
    tools = {"ours": ours} | ({"nnunet": nnunet} if args.nnunet else {})
    for name, fold, seed, tool in itertools.product(args.datasets, args.fold, args.seed, tools):
        dataset = raw_dataset(name, args)
        key = {"dataset": dataset.name, "fold": fold, "seed": seed, "budget": args.time_budget, "tool": tool}
        work = make_folder(args.work / KIND / "-".join(map(str, key.values())))

        def make(run=tools[tool], of=(dataset, fold, seed, work)) -> dict:
            return run(*of, args)

        record = once(KIND, key, make, args)
        print(f"  Dice {record['scores']['mean']['Dice']:.4f} after {record['training_s']:.0f} s of training")


if __name__ == "__main__":
    main()
