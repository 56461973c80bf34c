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
    """All records, by dataset."""
    files = sorted((ROOT / "benchmarks" / "results").glob("Dataset*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def device(record: dict) -> str:
    """The hardware in words."""
    hardware = record["hardware"]
    return DEVICES["gpu" if hardware["gpu"] else "cpu"].format(**hardware)


def training(record: dict) -> dict:
    """The step that trained."""
    return next(step for step in record["steps"] if step["command"].startswith("dlsam_train"))


def short_table(rows: list[dict]) -> str:
    """One line a record, for the README."""
    lines = ["| dataset | trained for | validation Dice | on | command |", "|---|---|---|---|---|"]
    for row in rows:
        dice, cases = row["foreground_mean"]["Dice"], row["validation_cases"]
        command = f"`{training(row)['command']}`"
        budget = row["time_budget"].replace("m", " minutes")
        lines.append(f"| {row['dataset']} | {budget} | {dice:.3f} ({cases} cases) | {device(row)} | {command} |")
    return "\n".join(lines)


def step_line(step: dict) -> str:
    """A command with its figures; what was not taken is left empty."""
    figures = ("" if step[key] is None else str(step[key]) for key in ("wall_s", "cpu_s", "peak_mb"))
    return f"| `{step['command']}` | {' | '.join(figures)} |"


def long_table(rows: list[dict]) -> str:
    """Every class and every command of each record, for the documentation."""
    parts = []
    for row in rows:
        versions = ", ".join(f"{name} {number}" for name, number in row["versions"].items())
        classes = "; ".join(f"{name} {dice:.3f}" for name, dice in row["classes"].items())
        parts.append(
            f"### {row['dataset']}, fold {row['fold']}, {row['time_budget']}\n\n"
            f"{row['date']}, commit {row['commit']}, {device(row)}, {versions}.\n\n"
            f"Mean Dice {row['foreground_mean']['Dice']:.3f}, IoU {row['foreground_mean']['IoU']:.3f} on "
            f"{row['validation_cases']} validation cases ({classes}) after {row['training_steps']} training steps.\n\n"
            "| command | wall s | CPU s | largest memory so far, MB |\n|---|---|---|---|\n"
            + "\n".join(step_line(step) for step in row["steps"])
            + (f"\n\nNote: {row['note']}." if "note" in row else "")
        )
    return "\n\n".join(parts)


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
        (ROOT / "README.md", "measured", short_table(rows)),
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
