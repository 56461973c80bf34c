"""Calling the commands as a user does, in a folder of the test's own, and leaving the process as it was."""

import importlib
import json
import logging
import os
import signal
import sysconfig
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import delightsam_pipeline


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line of standard error."""
        return self.err.strip().splitlines()[-1]


@contextmanager
def process_as_it_was():
    """Commands take over signals and logging; both are put back."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers, root = [signal.getsignal(number) for number in numbers], logging.getLogger()
    kept, level = list(root.handlers), root.level
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)
    root.handlers[:] = kept
    root.setLevel(level)
    logging.getLogger(delightsam_pipeline.__name__).setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _process_as_it_was():
    with process_as_it_was():
        yield


@pytest.fixture(autouse=True, scope="module")
def _process_as_it_was_before_the_module():
    with process_as_it_was():
        yield


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder to work in, with no setting of this machine in force."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DLSAM_HOME", raising=False)
    monkeypatch.delenv("nnUNet_raw", raising=False)
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    return tmp_path


@pytest.fixture
def call(capsys):
    """call(command, arguments...) -> Answer, in this process."""

    def _call(command: str, *arguments) -> Answer:
        capsys.readouterr()
        main = importlib.import_module(f"delightsam_pipeline.commands.{command}").main
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        return Answer(code, *capsys.readouterr())

    return _call


@pytest.fixture(scope="session")
def environment():
    """The environment for a command in a process of its own."""
    wanted = {k: v for k, v in os.environ.items() if k not in ("DLSAM_HOME", "nnUNet_raw", "nnUNet_preprocessed")}
    root = Path(delightsam_pipeline.__file__).parents[1].resolve()
    if root == Path(sysconfig.get_path("purelib")).resolve():
        return wanted  # installed: named first, that folder would hide modules of the standard library
    return wanted | {"PYTHONPATH": str(root)}


@pytest.fixture(scope="session")
def make_pictures():
    """make_pictures(folder, cases=3, size=(64, 64), **entries): a raw dataset of grey PNGs with a bright square.

    The entries replace those of its dataset.json; None leaves one out.
    """

    def _make(folder: Path, cases: int = 3, size: tuple[int, int] = (64, 64), **entries) -> Path:
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True)
        generator = np.random.default_rng(0)
        for number in range(cases):
            mask = np.zeros(size, np.uint8)
            mask[16 + number : 48, 16:40] = 1
            image = generator.integers(0, 60, size, np.uint8) + 120 * mask
            Image.fromarray(image).save(folder / "imagesTr" / f"case{number}_0000.png")
            Image.fromarray(mask).save(folder / "labelsTr" / f"case{number}.png")
        value = {
            "channel_names": {"0": "ultrasound"},
            "labels": {"background": 0, "square": 1},
            "numTraining": cases,
            "file_ending": ".png",
            **entries,
        }
        text = json.dumps({key: entry for key, entry in value.items() if entry is not None})
        (folder / "dataset.json").write_text(text, encoding="utf-8")
        return folder

    return _make


@pytest.fixture(scope="session")
def shorten():
    """shorten(preprocessed folder, **entries): change the training of its plan, so that a run takes seconds."""

    def _shorten(folder: Path, **entries) -> None:
        file = folder / "plan.json"
        plan = json.loads(file.read_text(encoding="utf-8"))
        plan["training"] |= {"steps_per_epoch": 1, "batch_size": 1} | entries
        file.write_text(json.dumps(plan), encoding="utf-8")

    return _shorten


@pytest.fixture
def fails(call, empty):
    """fails(command, arguments...) -> the one line of the error, after a look at everything a failure must leave."""

    def _fails(command: str, *arguments) -> str:
        answer = call(command, *arguments)
        assert answer.code == 2, answer
        assert "Traceback" not in answer.err
        lines = answer.err.strip().splitlines()
        assert len(lines) == 1, answer.err
        assert lines[0].startswith("error: ")
        left = [file for file in empty.rglob("*") if file.name.startswith(".writing")]
        assert not left
        return lines[0]

    return _fails


@pytest.fixture
def refuses(call, empty):
    """refuses(command, arguments...) -> the last line of what the argument parser says."""

    def _refuses(command: str, *arguments) -> str:
        before = sorted(empty.rglob("*"))
        answer = call(command, *arguments)
        assert answer.code == 2, answer
        assert "Traceback" not in answer.err
        assert sorted(empty.rglob("*")) == before
        return answer.error

    return _refuses


@pytest.fixture
def raw(empty, make_pictures):
    """A good raw dataset, to be spoilt."""
    return make_pictures(empty / "dlsam" / "raw" / "Dataset007_Squares")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, make_pictures):
    """A home folder with a raw and preprocessed dataset and an untrained model that says it was trained on it."""
    from delightsam_pipeline.commands.plan_and_preprocess import main
    from delightsam_pipeline.inference.model_folder import describe_model, head_spec, save_weights
    from delightsam_pipeline.model.delightsam import DeLightSAM
    from delightsam_pipeline.plans.plan import load_plan

    home = tmp_path_factory.mktemp("home")
    raw = make_pictures(home / "raw" / "Dataset007_Squares")
    with process_as_it_was():
        assert main(["-d", str(raw), "-o", str(home / "preprocessed")]) == 0
    plan = load_plan(home / "preprocessed" / raw.name / "plan.json")
    folder = home / "results" / raw.name / "fold_0"
    model = DeLightSAM({raw.name: head_spec(plan)})
    describe_model(folder, model, {raw.name: plan}, {"made by": "a test"})
    save_weights(folder / "model.safetensors", model.state_dict())
    return home


@pytest.fixture
def home(trained, empty, monkeypatch):
    """The home of `trained`, in force."""
    monkeypatch.setenv("DLSAM_HOME", str(trained))
    return trained


@pytest.fixture
def picture(empty):
    """A picture that the model of `trained` could segment."""
    file = empty / "new" / "a_0000.png"
    file.parent.mkdir()
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(file)
    return file
