"""Write the tables of README.md and docs/results/README.md from the records in benchmarks/results/.

python benchmarks/tables.py           rewrite what stands between the markers
python benchmarks/tables.py --check   exit with 1 when that would change anything
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEVICES = {"gpu": "{gpu}", "cpu": "{cores} cores of {cpu}"}


def records() -> list[dict]:
    """All records of trainings, by dataset."""
    files = sorted((ROOT / "benchmarks" / "results").glob("*-fold*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def device(record: dict) -> str:
    """The hardware in words."""
    hardware = record["hardware"]
    return DEVICES["gpu" if hardware["gpu"] else "cpu"].format(**hardware)


def baselines() -> dict[str, dict]:
    """What needs no network, by dataset (see baselines.py)."""
    return json.loads((ROOT / "benchmarks" / "results" / "baselines.json").read_text(encoding="utf-8"))


def comparison(rows: list[dict]) -> str:
    """One line a dataset: fold 0 on a CPU, by models of its own and by one for all; and what needs no network."""
    rows = [row for row in rows if row["fold"] == "0" and row["hardware"]["gpu"] is None]
    datasets = sorted({head for row in rows for head in row["heads"]})
    columns: dict[tuple[int, float], dict[str, str]] = {}
    for row in rows:
        cells = columns.setdefault((len(row["heads"]), minutes(row["time_budget"])), {})
        for head, found in row["heads"].items():
            if head in cells:
                raise ValueError(f"two records say what {head} has after {row['time_budget']}")
            cells[head] = number(found["foreground_mean"]["Dice"]) + ("*" if "note" in row else "")
    titles = [f"{'alone' if n == 1 else f'one model of {n} heads'}, {time:g} min" for n, time in sorted(columns)]
    header = ["dataset", "training / validation cases", *titles, "constant mask", "threshold"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for dataset in datasets:
        base = baselines()[dataset]
        cells = [dataset, f"{base['training_cases']} / {base['validation_cases']}"]
        cells += [columns[key].get(dataset, "") for key in sorted(columns)]
        cells += [number(base[kind]["dice"]) for kind in ("constant_mask", "threshold")]
        lines.append("| " + " | ".join(cells) + " |")
    if any("note" in row for row in rows):
        lines.append("\n\\* see the note of the [record](WHERE#all-records)")
    return "\n".join(lines)


def minutes(budget: str) -> float:
    """A time budget such as 90s, 20m or 1.5h in minutes."""
    return float(budget[:-1]) * {"s": 1 / 60, "m": 1, "h": 60}[budget[-1]]


def number(value: float) -> str:
    """Three decimals."""
    return f"{value:.3f}"


def step_line(step: dict) -> str:
    """A command with its figures; what was not taken is left empty."""
    figures = ("" if step[key] is None else str(step[key]) for key in ("wall_s", "cpu_s", "peak_mb"))
    return f"| `{step['command']}` | {' | '.join(figures)} |"


def long_table(rows: list[dict]) -> str:
    """Every class and every command of each record, for the documentation."""
    parts = []
    for row in rows:
        versions = ", ".join(f"{name} {number}" for name, number in row["versions"].items())
        parts.append(
            f"### {row['dataset']}, fold {row['fold']}, {row['time_budget']}\n\n"
            f"{row['date']}, commit {row['commit']}, {device(row)}, {versions};"
            f" {row['training_steps']} training steps.\n\n"
            + "\n".join(head_line(head, found) for head, found in row["heads"].items())
            + "\n\n| command | wall s | CPU s | largest memory so far, MB |\n|---|---|---|---|\n"
            + "\n".join(step_line(step) for step in row["steps"])
            + (f"\n\nNote: {row['note']}." if "note" in row else "")
        )
    return "\n\n".join(parts)


def head_line(head: str, found: dict) -> str:
    """A head's scores."""
    means = ", ".join(
        f"{metric} {value:.3f}" for metric, value in found["foreground_mean"].items() if value is not None
    )
    classes = "; ".join(f"{name} {dice:.3f}" for name, dice in found["classes"].items())
    return f"- {head}: {means} on {found['validation_cases']} validation cases (Dice: {classes})"


def filled(text: str, name: str, content: str) -> str:
    """`text` with what stands between the markers `name` replaced."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    rows, changed = records(), False
    for file, name, content in (
        (ROOT / "README.md", "measured", comparison(rows).replace("WHERE", "docs/results/README.md")),
        (ROOT / "docs" / "results" / "README.md", "comparison", comparison(rows).replace("WHERE", "")),
        (ROOT / "docs" / "results" / "README.md", "results", long_table(rows)),
    ):
        old = file.read_text(encoding="utf-8")
        new = filled(old, name, content)
        changed |= new != old
        if not check:
            file.write_text(new, encoding="utf-8")
    return int(check and changed)


if __name__ == "__main__":
    sys.exit(main())
