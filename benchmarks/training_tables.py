"""Write the tables of docs/results/training.md from the records of the benchmarks of training.

python benchmarks/training_tables.py           rewrite what stands between the markers
python benchmarks/training_tables.py --check   exit with 1 when that would change anything
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from common import RESULTS
from domains import mean_dice
from tables import ROOT, filled, number

from delightsam_pipeline.evaluation.comparison import compare
from delightsam_pipeline.evaluation.summary import defined_means
from delightsam_pipeline.files import read_json, write_text

Record = dict[str, Any]


def records(kind: str) -> list[Record]:
    """All records of a benchmark, in the order of their names."""
    return [read_json(file) for file in sorted((RESULTS / kind).glob("*.json"))]


def machine(record: Record) -> str:
    """What a training ran on, in words."""
    gpu, cores = record["hardware"]["gpu"], record["cores_used"]
    return gpu or f"{cores} core{'s' if cores > 1 else ''} of {record['hardware']['cpu']}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, or a sentence where there is nothing to show."""
    if not rows:
        return "Not measured yet."
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def over_seeds(same: Sequence[Record]) -> Record:
    """One summary of runs that differ in fold and seed: every case once, its metrics the means over the seeds."""
    rows: dict[str, list[Record]] = defaultdict(list)
    for record in same:
        for row in record["scores"]["metric_per_case"]:
            rows[row["name"]].append(row)
    cases = [
        {
            "name": name,
            "group": found[0]["group"],
            "metrics": {key: defined_means([row["metrics"][key] for row in found]) for key in found[0]["metrics"]},
        }
        for name, found in sorted(rows.items())
    ]
    first = same[0]["scores"]
    return {"unit": first["unit"], "classes": first["classes"], "metric_per_case": cases}


def case_means(one: Record, other: Record) -> tuple[float, float]:
    """Of two summaries of the same cases, the mean over cases of the mean Dice over classes that both have defined."""
    means = []
    for first, second in zip(one["metric_per_case"], other["metric_per_case"], strict=True):
        pairs = [(first["metrics"][key]["Dice"], second["metrics"][key]["Dice"]) for key in one["classes"]]
        defined = [pair for pair in pairs if None not in pair]
        if defined:
            means.append(np.mean(defined, axis=0))
    mine, others = np.mean(means, axis=0)
    return float(mine), float(others)


def commits(*same: Record) -> str:
    """Of all records that a row is made of; more than one means that it pools different code."""
    return ", ".join(sorted({record["commit"] for record in same}))


def against_nnunet() -> str:
    """Per dataset, budget and machine: both means over the folds and seeds that both have, and the difference."""
    runs: dict[tuple, dict[tuple, dict[str, Record]]] = defaultdict(lambda: defaultdict(dict))
    for r in records("against_nnunet"):
        runs[r["dataset"], r["budget"], machine(r)][r["fold"], r["seed"]][r["tool"]] = r
    rows = []
    for (dataset, budget, where), of_run in sorted(runs.items()):
        pairs = [pair for pair in of_run.values() if len(pair) == 2]
        if not pairs:
            continue
        mine, other = ([pair[tool] for pair in pairs] for tool in ("ours", "nnunet"))
        one, two = over_seeds(mine), over_seeds(other)
        row = compare(one, two, "nnU-Net")["foreground_mean"]["Dice"]
        folds, seeds = ({record[key] for record in mine} for key in ("fold", "seed"))
        runs_told = f"{len(folds)} x {len(seeds)}" if len(pairs) == len(folds) * len(seeds) else f"{len(pairs)} runs"
        interval = "-" if row["interval"] is None else "{:+.3f} to {:+.3f}".format(*row["interval"])
        cells = [dataset, budget, where, runs_told, str(row["n_cases"]), *map(number, case_means(one, two))]
        cells += [f"{row['difference']:+.3f}", interval, *(f"{mean_of(of, 'training_s'):.0f}" for of in (mine, other))]
        cells += [f"{mean_of(of, 'iterations'):.0f}" for of in (mine, other)]
        cells += [f"{mean_of(of, 'cpu_s') / mean_of(of, 'wall_s'):.2f}" for of in (mine, other)]
        rows.append([*cells, commits(*mine, *other)])
    header = ["dataset", "budget", "on", "folds x seeds", "cases", "ours", "nnU-Net", "difference", "95 % interval"]
    pairs_told = [f"{what}, {who}" for what in ("training s", "steps", "cores") for who in ("ours", "nnU-Net")]
    return markdown([*header, *pairs_told, "commit"], rows)


def mean_of(same: Sequence[Record], key: str) -> float:
    return float(np.mean([record[key] for record in same]))


def joint_or_single() -> str:
    """Per dataset the Dice of one model of all and of one of its own, at equal total time."""
    made = records("joint_or_single")
    rows = []
    for joint in (r for r in made if r["what"] == "joint"):
        share = f"{float(joint['budget'][:-1]) / len(joint['heads']):g}s"
        for head, found in joint["heads"].items():
            for r in made:
                if r["what"] == "single" and head in r["heads"] and r["budget"] == share and same_run(r, joint):
                    pair = [number(each["mean"]["Dice"]) for each in (found, r["heads"][head])]
                    about = [joint["fold"], str(joint["seed"]), joint["budget"], share, machine(joint)]
                    rows.append([head, *about, str(len(found["metric_per_case"])), *pair, commits(joint, r)])
    header = ["dataset", "fold", "seed", "time of one model", "time of each alone", "on", "cases", "one model", "alone"]
    return markdown([*header, "commit"], rows)


def same_run(one: Record, other: Record) -> bool:
    return all(one[key] == other[key] for key in ("fold", "seed", "cores_used")) and machine(one) == machine(other)


def added() -> str:
    """Datasets added to a trained model beside the same alone; how many masks of the other heads stayed the same."""
    made, rows = records("joint_or_single"), []
    for r in (r for r in made if r["what"] == "added"):
        for alone in (o for o in made if o["what"] == "single" and o["budget"] == r["budget"] and same_run(o, r)):
            for head in r["heads"].keys() & alone["heads"].keys():
                pair = [r["heads"][head], alone["heads"][head]]
                about = [r["base"], r["fold"], str(r["seed"]), r["budget"], machine(r)]
                same, files = (sum(m[key] for m in r["masks"].values()) for key in ("identical", "files"))
                dice = [number(each["mean"]["Dice"]) for each in pair]
                rows.append(
                    [head, *about, str(len(pair[0]["metric_per_case"])), *dice, f"{same} of {files}", commits(r, alone)]
                )
    header = ["dataset", "added to", "fold", "seed", "time", "on", "cases", "added", "alone", "masks unchanged"]
    return markdown([*header, "commit"], rows)


def domains() -> str:
    """Per setting and domain, on its held-out cases: Dice of models trained on it, and of those trained on the other.

    Both are means over seeds and over the quarters held out; only quarters that both directions have count.
    """
    runs: dict[tuple, dict[tuple, Record]] = defaultdict(dict)
    for r in records("domains"):
        part, seed = int(r["fold"]) // 2, r["seed"]
        runs[r["setting"], r["epochs"]][part, seed, r["trained_on"]] = r
    rows = []
    for (setting, epochs), of_run in sorted(runs.items()):
        first = next(iter(of_run.values()))
        for here, there in (list(first["domains"]), list(first["domains"])[::-1]):
            inside, outside, cases, used = [], [], 0, []
            for (part, seed, trained_on), own in of_run.items():
                other = of_run.get((part, seed, there))
                if trained_on == here and other is not None:
                    names = {row["name"] for row in own["scores"][here]["metric_per_case"]}
                    same = [row for row in other["scores"][here]["metric_per_case"] if row["name"] in names]
                    inside.append(own["scores"][here]["dice"])
                    outside.append(mean_dice(same))
                    cases += len(names)
                    used += [own, other]
            if inside:
                pair = float(np.mean(inside)), float(np.mean(outside))
                steps = ", ".join(sorted({str(r["iterations"]) for r in used}))
                cells = [setting, epochs, steps, here, str(len(inside)), str(cases)]
                rows.append([*cells, *map(number, pair), f"{pair[1] - pair[0]:+.3f}", commits(*used)])
    header = ["setting", "length", "steps", "tested on", "runs", "cases tested", "trained on it"]
    return markdown([*header, "trained on the other", "difference", "commit"], rows)


TABLES = {"against-nnunet": against_nnunet, "joint": joint_or_single, "added": added, "domains": domains}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    file = ROOT / "docs" / "results" / "training.md"
    old = new = file.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        new = filled(new, name, make())
    if not check and new != old:
        write_text(file, new)
    return int(check and new != old)


if __name__ == "__main__":
    sys.exit(main())
