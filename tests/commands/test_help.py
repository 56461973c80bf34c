"""--help and --version: complete, and quick because no torch is imported."""

import importlib
import subprocess
import sys

import pytest

from delightsam_pipeline import __version__

COMMANDS = ("plan_and_preprocess", "train", "predict", "evaluate", "demo", "import_release", "info", "convert")

_HELP_OF_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(f"delightsam_pipeline.commands.{name}").main(["--help"])
    except SystemExit as stop:
        if stop.code:
            raise
print("imported:", *(name for name in ("torch", "SimpleITK", "nibabel") if name in sys.modules))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option(command, call):
    answer = call(command, "--help")
    assert answer.code == 0
    assert answer.err == ""
    parser = importlib.import_module(f"delightsam_pipeline.commands.{command}").parser()
    for action in parser._actions:
        name = action.option_strings[-1] if action.option_strings else action.metavar or action.dest
        assert name in answer.out
        assert action.help, f"{name} has no help"


@pytest.mark.parametrize("command", COMMANDS)
def test_version(command, call):
    answer = call(command, "--version")
    assert answer.code == 0
    assert answer.out.strip() == f"delightsam-pipeline {__version__}"


def test_help_does_not_import_torch(environment):
    run = [sys.executable, "-c", _HELP_OF_ALL, *COMMANDS]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "imported:"
