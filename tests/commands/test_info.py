"""dlsam_info: what it says of an untrained model, as text and as JSON, and how it refuses."""

import json
import shutil
import subprocess
import sys

import pytest

from delightsam_pipeline.inference.model_folder import describe_model, load_model, save_weights, sha256
from delightsam_pipeline.model.delightsam import DeLightSAM

NAME = "Dataset007_Squares"


@pytest.fixture
def model(home):
    """The folder of the untrained model."""
    return home / "results" / NAME / "fold_0"


@pytest.fixture
def recorded(model, empty):
    """recorded(**entries): a copy of the model whose model.json has this provenance."""

    def _recorded(**entries):
        folder = shutil.copytree(model, empty / "copy")
        card = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(card | {"provenance": entries}))
        return folder

    return _recorded


def asked(call, *arguments) -> dict:
    """The JSON that the command prints, and nothing else."""
    answer = call("info", *arguments, "--json")
    assert answer.code == 0, answer
    return json.loads(answer.out)


def test_text(call, model):
    answer = call("info", model)
    assert answer.code == 0
    lines = [" ".join(line.split()) for line in answer.out.splitlines()]
    assert lines[0] == str(model)
    for line in (
        f"head {NAME}",
        "modality: ultrasound",
        "classes: square",
        "training cases: not recorded",
        "parameters of SAM ViT-H's 641,090,608",
        "controller ultrasound 3,144,212 0.49%",
        f"head {NAME} 140,064 0.02%",
        "all 12,470,537 1.95%",
        "yours: trained from your data",
        "made by: a test",
        sha256(model / "model.safetensors"),
    ):
        assert line in lines, answer.out
    assert any(line.startswith(f"head {NAME} 64 x 64 ") for line in lines)


def test_json(call, model):
    found = asked(call, model)
    assert found["model"] == str(model)
    assert found["form"] == {"fit_windows": True, "detail": True, "joint": 0}
    (head,) = found["heads"].values()
    assert (head["modality"], head["classes"], head["size"]) == ("ultrasound", ["square"], [64, 64])
    assert head["gflop"]["all"] == pytest.approx(sum(v for part, v in head["gflop"].items() if part != "all"))
    network, _, _ = load_model(model)
    assert found["parameters"]["all"] == sum(parameter.numel() for parameter in network.parameters())
    assert found["parameters"]["SAM ViT-H"] == 641_090_608
    assert found["provenance"] == {"made by": "a test"}


def test_a_second_head_counts_beside_the_model_with_one(call, model, empty):
    network, plans, card = load_model(model)
    network = DeLightSAM({"a": network.specs[NAME], "b": network.specs[NAME]})
    describe_model(empty / "two", network, {"a": plans[NAME], "b": plans[NAME]}, card.provenance)
    save_weights(empty / "two" / "model.safetensors", network.state_dict())
    counts = asked(call, empty / "two")["parameters"]
    assert counts["one controller and head"] == 12_470_537
    assert counts["all"] == 12_470_537 + 140_064


def test_training_cases_are_counted_and_named_only_when_asked(call, recorded):
    folder = recorded(training_cases={NAME: ["smith", "jones"]}, fold="1")
    answer = call("info", folder)
    assert "training cases: 2" in answer.out
    assert "fold: 1" in answer.out
    assert "smith" not in answer.out
    assert "smith, jones" in call("info", folder, "--verbose").out
    found = asked(call, folder)
    assert found["heads"][NAME]["training_cases"] == 2
    assert found["provenance"]["training_cases"] == {NAME: ["smith", "jones"]}


def test_a_head_added_to_a_model_keeps_its_history(call, recorded):
    earlier = {"training_cases": {NAME: ["a", "b", "c"]}, "device": "the first", "weights_licence": "CC0"}
    folder = recorded(training_cases={"other": ["d"]}, device="the second", added_to=earlier)
    answer = call("info", folder)
    assert "training cases: 3" in answer.out
    assert answer.out.index("the second") < answer.out.index("added to a model") < answer.out.index("the first")
    assert asked(call, folder)["licence"] == "CC0; yours: trained from your data"


@pytest.mark.parametrize(
    ("provenance", "licence"),
    [
        ({"weights_licence": "CC BY 4.0"}, "CC BY 4.0"),
        ({"pretrained": None}, "yours: trained from your data"),
        (
            {"pretrained": "start.pt"},
            "yours: trained from your data; begun with start.pt, whose licence holds as well",
        ),
    ],
)
def test_licence(call, recorded, provenance, licence):
    assert asked(call, recorded(**provenance))["licence"] == licence


@pytest.mark.parametrize("wanted", ["7", "Squares", NAME])
def test_a_dataset_means_the_model_trained_on_it(call, model, wanted):
    assert asked(call, wanted)["model"] == str(model)


def test_a_fold_is_chosen_and_said_outside_the_json(call, model, empty, monkeypatch):
    for fold in ("fold_0", "fold_3"):
        shutil.copytree(model, empty / "folds" / "results" / NAME / fold)
    monkeypatch.setenv("DLSAM_HOME", str(empty / "folds"))
    answer = call("info", "7", "--json")
    assert json.loads(answer.out)["model"].endswith("fold_0")
    assert "of the folds 0, 3, fold_0 is used" in answer.err
    assert asked(call, "7", "-f", "3")["model"].endswith("fold_3")
    assert asked(call, empty / "folds" / "results" / NAME, "-f", "3")["model"].endswith("fold_3")


def test_what_cannot_be_described_is_one_line(fails, home, model, empty):
    line = fails("info", "9")
    assert f"no model has been trained on '9'; found {NAME}; give the name of one of them, or a model folder" in line
    assert "gone/fold_0: is not a model folder (no model.json)" in fails("info", "gone/fold_0")
    assert "is not a model folder (no model.json)" in fails("info", model / "model.safetensors")
    assert "fold 4 has not been trained; found 0" in fails("info", "7", "-f", "4")
    shutil.copytree(model, empty / "half")
    (empty / "half" / "model.safetensors").unlink()
    assert "model.safetensors: the weights are missing" in fails("info", empty / "half", "--json")


def test_without_a_model(fails, refuses):
    line = fails("info", "nowhere")
    assert "there is no trained model, so none called 'nowhere'; train one with dlsam_train, or give its folder" in line
    assert "required: MODEL" in refuses("info")
    assert "unknown argument --jsn; did you mean --json?" in refuses("info", "7", "--jsn")


def test_refusing_takes_no_torch(empty, environment):
    code = (
        "import sys; from delightsam_pipeline.commands.info import main; main(['gone']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "False"
    assert "error: " in done.stderr
