"""Write docs/reference/commands.md from the commands' own parsers; a test checks that it is up to date."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

COMMANDS = ("plan_and_preprocess", "train", "predict", "evaluate", "demo", "import_release", "info", "convert")
FILE = Path(__file__).parent / "reference" / "commands.md"
_HEADER = (
    "# Commands",
    "Written by `docs/make_reference.py` from the commands' own options. Each also has `--help`, `--version` and "
    "`--verbose`.",
    "Exit codes: 0 done, 1 a bug (please report it), 2 something for you to mend, 3 some cases failed and the others "
    "are done, 130 stopped by Ctrl-C, 143 stopped by SIGTERM or by a stop file.",
    "DATASET is an id (`101`), a name (`Dataset101_Liver` or `Liver`) or a folder. FOLD is 0 to 4 (fewer with fewer "
    "than five cases or groups), or `all`. TIME is a number with `s`, `m`, `h` or `d`. Folders are below `dlsam`, or "
    "below `DLSAM_HOME` when that is set.",
)
_COMMON = ("help", "version", "verbose")


def reference() -> str:
    """The text of commands.md."""
    return "\n\n".join([*_HEADER, *map(_section, COMMANDS)]) + "\n"


def _section(command: str) -> str:
    parser = import_module(f"delightsam_pipeline.commands.{command}").parser()
    actions = [action for action in parser._actions if action.dest not in _COMMON]
    shown = sorted(actions, key=lambda action: bool(action.option_strings))
    rows = ["| argument | meaning |", "|---|---|"]
    rows += [f"| {_name(action)} | {_cell(action.help)} |" for action in shown]
    return "\n\n".join([f"## dlsam_{command}", parser.description, "\n".join(rows)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _name(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else action.metavar or "|".join(action.choices or ()) or action.dest.upper()
    if action.nargs in ("+", "*"):
        value += " ..."
    if not action.option_strings:
        return f"`{value}`"
    names = ", ".join(f"`{option}`" for option in action.option_strings)
    needed = ", needed" if action.required else ""
    return _cell(names + (f" `{value}`" if value else "") + needed)


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
