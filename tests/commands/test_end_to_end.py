"""The commands of docs/get-started.md on small generated data, and what can happen on the way."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

GUIDE = Path(__file__).parents[2] / "docs" / "get-started.md"
MRI, ULTRASOUND = "Dataset902_ExampleMRI", "Dataset903_ExampleUltrasound"
RAW, STORES = Path("dlsam/raw"), Path("dlsam/preprocessed")
MODEL = Path("dlsam/results") / f"{MRI}+{ULTRASOUND}" / "fold_0"

pytestmark = pytest.mark.skipif(not GUIDE.exists(), reason="needs the source tree")


def commands_of_the_guide() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def worked(tmp_path_factory, shorten):
    """A folder in which all commands of the guide were given, with few cases and two epochs of a step a dataset."""
    folder = tmp_path_factory.mktemp("worked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DLSAM_HOME", raising=False)
        patch.delenv("nnUNet_raw", raising=False)
        for program, *arguments in commands_of_the_guide():
            if program == "python":
                make = arguments[1].replace("'dlsam/raw'", f"'dlsam/raw', 5, 2, datasets=['{MRI}', '{ULTRASOUND}']")
                assert make != arguments[1]
                exec(make, {})
                continue
            if program == "dlsam_train":
                arguments[arguments.index("--time-budget") :] = ["--epochs", "2"]
                for store in STORES.iterdir():
                    shorten(store)
            main = import_module("delightsam_pipeline.commands." + program.removeprefix("dlsam_")).main
            assert main(arguments) == 0, [program, *arguments]
    return folder


@pytest.fixture
def inside(worked, empty, monkeypatch):
    """The folder of `worked`, as the current one."""
    monkeypatch.chdir(worked)
    return worked


@pytest.fixture
def start_training(environment):
    """start_training(arguments...) -> dlsam_train in a process of its own, and what it said up to its first epoch."""
    code = "import sys; from delightsam_pipeline.commands.train import main; sys.exit(main())"
    started = []

    def _start(*arguments: str) -> tuple[subprocess.Popen, list[str]]:
        run, both = [sys.executable, "-c", code, *arguments], {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(run, **both, text=True, env=environment)
        started.append(process)
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("epoch "):
                break
        return process, said

    yield _start
    for process in started:
        process.kill()
        process.wait()


def test_end_to_end_every_volume_has_a_mask_in_its_place(inside):
    images = sorted((RAW / MRI / "imagesTs").iterdir())
    assert len(images) == 2
    for file in images:
        image, mask = nibabel.load(file), nibabel.load(Path("predictions/mri") / file.name.replace("_0000", ""))
        assert mask.shape == image.shape
        np.testing.assert_array_equal(mask.affine, image.affine)
        assert set(np.unique(mask.dataobj)) <= {0, 1, 2}
        assert mask.get_data_dtype() == np.uint8


def test_end_to_end_every_picture_has_a_mask_of_its_size(inside):
    images = sorted((RAW / ULTRASOUND / "imagesTs").iterdir())
    assert len(images) == 2
    for file in images:
        image, mask = Image.open(file), Image.open(Path("predictions/ultrasound") / file.name.replace("_0000", ""))
        assert mask.size == image.size
        assert mask.mode == "P"
        assert set(np.unique(mask)) <= {0, 1}


def test_end_to_end_everything_is_reported(inside):
    for name in ("model.json", "model.safetensors", "best.safetensors", "progress.csv", "progress.png"):
        assert (MODEL / name).stat().st_size
    for dataset, output in ((MRI, "mri"), (ULTRASOUND, "ultrasound")):
        assert (MODEL / "plans" / f"{dataset}.json").exists()
        for folder, cases in ((MODEL / "validation" / dataset, 1), (Path("predictions") / output, 2)):
            assert len(json.loads((folder / "summary.json").read_text())["metric_per_case"]) == cases
            assert (folder / "worst_cases.png").exists()
        record = json.loads((Path("predictions") / output / "run.json").read_text())
        assert record["head"] == dataset
        assert record["intended_use"] == "research; not for clinical use"
        assert [set(case) for case in record["cases"].values()] == [{"file", "seconds"}] * 2
    assert not list(inside.rglob(".writing*"))


def test_end_to_end_planning_again_redoes_nothing(inside, call):
    before = {file: file.stat().st_mtime_ns for file in STORES.glob("*/cases/*")}
    assert len(before) == 2 * 5 * 4
    answer = call("plan_and_preprocess", "-d", "902", "903")
    assert answer.code == 0
    assert answer.out.count("0 cases preprocessed, 5 kept from before") == 2
    assert {file: file.stat().st_mtime_ns for file in STORES.glob("*/cases/*")} == before


def test_end_to_end_a_stopped_training_goes_on(inside, start_training, shorten, call):
    shorten(STORES / ULTRASOUND)
    arguments = ["903", "0", "--epochs", "5000", "-o", "stopped"]
    done = 0
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process, said = start_training(*arguments)
        assert any(f"going on after epoch {done}\n" in line for line in said) == (done > 0), said
        process.send_signal(number)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == code, rest
        assert rest.splitlines()[-1] == "stopped and saved; the same command goes on"
        assert "Traceback" not in rest
        before, done = done, torch.load("stopped/last.pt", weights_only=True)["progress"]["epoch"]
        assert done > before
    answer = call("train", *arguments[:2], "--epochs", done + 1, "-o", "stopped")
    assert answer.code == 0
    assert f"going on after epoch {done}\n" in answer.out
    rows = Path("stopped/progress.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, done + 2))


def test_end_to_end_one_broken_image_stops_no_other(inside, tmp_path, call):
    images = Path(shutil.copytree(RAW / ULTRASOUND / "imagesTs", tmp_path / "images"))
    good = [file.name.replace("_0000", "") for file in sorted(images.iterdir())]
    (images / "broken_0000.png").write_bytes(next(images.iterdir()).read_bytes()[:500])
    answer = call("predict", "-i", images, "-o", tmp_path / "out", "--head", "903")
    assert answer.code == 3
    assert "1 problem in" in answer.err
    assert "broken_0000.png: cannot be read as PNG" in answer.error
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["run.json", *good]
    cases = json.loads((tmp_path / "out" / "run.json").read_text())["cases"]
    assert [name for name, case in cases.items() if "error" in case] == ["broken"]
    assert len(cases) == 3


def test_end_to_end_one_file_in_one_file_out(inside, tmp_path, call):
    image = next((RAW / ULTRASOUND / "imagesTs").iterdir())
    assert call("predict", "-i", image, "-o", tmp_path / "deep" / "mask.png", "-m", MODEL, "--head", "903").code == 0
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["mask.png"]
    expected = Image.open(Path("predictions/ultrasound") / image.name.replace("_0000", ""))
    np.testing.assert_array_equal(Image.open(tmp_path / "deep" / "mask.png"), expected)


def test_end_to_end_raw_data_of_nnunet_is_found(worked, empty, monkeypatch, call):
    monkeypatch.setenv("nnUNet_raw", str(worked / RAW))
    assert call("plan_and_preprocess", "-d", "ExampleUltrasound").code == 0
    assert len(list((empty / STORES / ULTRASOUND / "cases").glob("*.json"))) == 5
    predictions = str(worked / "predictions" / "ultrasound")
    reference = shutil.copytree(worked / RAW / ULTRASOUND / "labelsTs", empty / "reference")
    answer = call("evaluate", reference, predictions, "-d", "903", "-o", "scores.json", "--worst", "0")
    assert answer.code == 0
    assert sorted(file.name for file in empty.iterdir()) == ["dlsam", "reference", "scores.csv", "scores.json"]
