"""What a user can get wrong in the options: one line that says what to do, exit code 2, and nothing half-written."""

import subprocess
import sys

import pytest

_TRAIN_WITHOUT_TORCH = """
import sys
from delightsam_pipeline.commands.train import main
code = main(sys.argv[1:])
sys.exit(99 if "torch" in sys.modules else code)
"""


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("train", ["7", "0", "--epoch", "3"], ["--epoch;", "did you mean --epochs?"]),
        ("predict", ["-i", "a", "-o", "b", "--chekpoint=best"], ["--chekpoint", "did you mean --checkpoint?"]),
        ("predict", ["--imput", "a", "-o", "b"], ["--imput", "did you mean --input?"]),
        ("plan_and_preprocess", ["--datset", "7"], ["--datset", "did you mean --dataset?"]),
        ("evaluate", ["a", "b", "c"], ["unknown argument c"]),
        ("train", ["7", "0", "--time-budget", "soon"], ["'soon' is not a duration", "20m"]),
        ("train", ["7", "0", "--time-budget", "0m"], ["'0m' is not a duration"]),
        ("train", ["7", "0", "--epochs", "0"], ["'0' is not a whole number above 0"]),
        ("train", ["7", "0", "--seed", "x"], ["'x' is not a whole number"]),
        ("predict", ["-i", "a", "-o", "b", "--batch-size", "many"], ["'many' is not a whole number above 0"]),
        ("predict", ["-i", "", "-o", "b"], ["the path is empty"]),
        ("predict", ["-i", "a", "-o", "b", "--checkpoint", "last"], ["'last'", "final", "best"]),
        ("plan_and_preprocess", ["-d", "7", "--gpu-memory", "lots"], ["'lots' is not an amount of memory"]),
        ("plan_and_preprocess", ["-d", "7", "--gpu-memory", "0.3"], ["0.3 GB is too little, give at least 0.5"]),
    ],
)
def test_a_wrong_option(command, arguments, words, refuses):
    line = refuses(command, *arguments)
    for word in words:
        assert word in line


def test_a_wrong_dataset_is_told_before_torch_is_loaded(environment, empty):
    run = [sys.executable, "-c", _TRAIN_WITHOUT_TORCH, "7", "0"]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: no preprocessed dataset called '7'")
