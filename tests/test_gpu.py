"""The three commands on a GPU, and its labels against the processor's. Run with `pytest -m gpu`."""

from __future__ import annotations

import logging
import signal

import numpy as np
import pytest

from delightsam_pipeline.commands import plan_and_preprocess, predict, train
from delightsam_pipeline.data.examples import make_examples
from delightsam_pipeline.data.formats import known_ending
from delightsam_pipeline.data.masks import read_labels

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA can use"),
]
CT, ULTRASOUND = "Dataset901_ExampleCT", "Dataset903_ExampleUltrasound"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A root folder with two datasets and a model for both, trained on the GPU; the process is left as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    folder = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLSAM_HOME", str(folder))
        patch.delenv("nnUNet_raw", raising=False)
        make_examples(folder / "raw", train=6, test=2, datasets=(CT, ULTRASOUND))
        assert plan_and_preprocess.main(["-d", "901", "903"]) == 0
        assert train.main(["901+903", "0", "--epochs", "3", "--device", "cuda"]) == 0
        yield folder
    for number, handler in signals.items():
        signal.signal(number, handler)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("delightsam_pipeline").setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def model(home):
    return home / "results" / f"{CT}+{ULTRASOUND}" / "fold_0"


def predicted(home, model, dataset, device):
    """Labels of the dataset's test cases by file name."""
    output = home / "predictions" / device / dataset
    images = home / "raw" / dataset / "imagesTs"
    arguments = ["-i", images, "-o", output, "-m", model, "--head", dataset, "--device", device]
    assert predict.main([str(argument) for argument in arguments]) == 0
    return {file.name: read_labels(file).array for file in sorted(output.iterdir()) if known_ending(file)}


def test_training_leaves_a_whole_model(model):
    for name in ("model.json", "model.safetensors", "last.pt", "progress.csv", "progress.png"):
        assert (model / name).is_file()
    for dataset in (CT, ULTRASOUND):
        assert (model / "validation" / dataset / "summary.json").is_file()
    assert len((model / "progress.csv").read_text().splitlines()) == 1 + 3


@pytest.mark.parametrize("dataset", [CT, ULTRASOUND])
def test_gpu_and_processor_agree(home, model, dataset):
    on_gpu, on_cpu = (predicted(home, model, dataset, device) for device in ("cuda", "cpu"))
    assert len(on_gpu) == 2 and on_gpu.keys() == on_cpu.keys()
    pixels = sum(labels.size for labels in on_cpu.values())
    same = sum(int(np.count_nonzero(on_gpu[name] == on_cpu[name])) for name in on_cpu)
    assert same >= 0.999 * pixels
    assert any(labels.any() for labels in on_gpu.values()), "nothing was found, so nothing was compared"


def test_a_finished_run_is_taken_up_on_the_gpu(home, model):
    before = (model / "model.safetensors").read_bytes()
    assert train.main(["901+903", "0", "--epochs", "3", "--device", "cuda"]) == 0
    assert (model / "model.safetensors").read_bytes() == before
