"""The demo's own part: which datasets it takes, and the picture of all of them. What it calls is tested elsewhere."""

import functools
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from delightsam_pipeline.commands import demo
from delightsam_pipeline.data import examples


@pytest.fixture
def given(monkeypatch, empty):
    """The demo with few cases, in which a perfect model is at once there; the arguments of its steps by command."""
    given = {}

    def predict(arguments):
        images, output = (Path(arguments[arguments.index(option) + 1]) for option in ("-i", "-o"))
        shutil.copytree(images.with_name("labelsTs"), output)

    score = demo.evaluate.main

    def evaluate(arguments):
        return given.update(evaluate=arguments) if "-d" in arguments else score(arguments)

    monkeypatch.setenv("DLSAM_HOME", "")  # the demo sets it: put back after the test
    monkeypatch.setattr(examples, "make_examples", functools.partial(examples.make_examples, train=1, test=3))
    monkeypatch.setattr(demo.plan_and_preprocess, "main", lambda arguments: given.update(plan=arguments))
    monkeypatch.setattr(demo.train, "main", lambda arguments: given.update(train=arguments))
    monkeypatch.setattr(demo.predict, "main", predict)
    monkeypatch.setattr(demo.evaluate, "main", evaluate)
    return given


@pytest.mark.parametrize(
    ("options", "modalities", "seconds"),
    [
        ((), ["CT", "MRI", "ultrasound", "dermoscopy"], "240s"),
        (
            ("--all",),
            ["CT", "MRI", "ultrasound", "dermoscopy", "X-ray", "fundus", "microscopy", "endoscopy"],
            "720s",
        ),
    ],
)
def test_one_model_and_one_picture_for_all_datasets(call, given, empty, options, modalities, seconds):
    answer = call("demo", "--folder", "here", *options)
    assert answer.code == 0, answer.err
    folders = sorted((empty / "here/raw").iterdir())
    assert [json.loads((f / "dataset.json").read_text())["modality"] for f in folders] == modalities
    ids = [f.name[7:10] for f in folders]
    assert given["plan"] == ["-d", *ids]
    assert given["train"][:4] == ["+".join(ids), "0", "--time-budget", seconds]
    assert given["evaluate"][:2] == ["-d", "+".join(ids)]
    assert answer.out.count(" 1.000") >= len(ids)
    with Image.open(empty / "here/overview.png") as sheet:  # two cases a row, each in three pictures of 320 at most
        assert 2 * 3 * 240 < sheet.width < 2 * 3 * 332
        assert len(ids) * 220 < sheet.height < len(ids) * 400
