"""The entry `annotated`: which classes it leaves open in which case, and what is refused."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data import annotations as annotations_module
from delightsam_pipeline.data.annotations import Annotations, require_unseen
from delightsam_pipeline.data.checks import check_case
from delightsam_pipeline.data.dataset import load_dataset, load_definitions
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError

FILE = Path("data/dataset.json")
CLASSES = ("liver", "tumour", "lung")
REGIONS = {"background": 0, "whole": [1, 2], "core": 2}


def parse(value):
    return Annotations.parse(value, CLASSES, FILE)


def png(path: Path, *values: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.array([values], np.uint8)).save(path)


@pytest.fixture
def make(tmp_path):
    """make(entries, masks): a dataset of pictures of three pixels with these masks, {case: values}."""

    def _make(masks, **entries) -> Path:
        for name, values in masks.items():
            png(tmp_path / "imagesTr" / f"{name}_0000.png", 5, 6, 7)
            png(tmp_path / "labelsTr" / f"{name}.png", *values)
        labels = {"background": 0, "liver": 1, "lung": 2}
        description = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".png", **entries}
        (tmp_path / "dataset.json").write_text(json.dumps(description))
        return tmp_path

    return _make


def test_what_is_not_annotated():
    annotations = parse({"a": ["liver"], "lung_*": ["lung", "tumour"], "lung_9": ["lung"], "b": list(CLASSES)})
    assert annotations.missing("a") == ("tumour", "lung")
    assert annotations.missing("lung_1") == ("liver",)
    assert annotations.missing("lung_9") == ("liver", "tumour")  # a name goes before a pattern
    assert annotations.missing("b") == annotations.missing("c") == ()
    assert parse({}).missing("a") == ()


def test_two_patterns_for_a_case():
    with pytest.raises(UserError, match=r"^data/dataset\.json: .*several entries for 'ab'; found a\*, \*b; let one"):
        parse({"a*": ["liver"], "*b": ["lung"]}).missing("ab")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (["a"], 'is not a map; expected {"CASE"'),
        ({"a": "liver"}, "is not a map"),
        ({"a": [1]}, "is not a map"),
        ({"a": []}, "has no class for 'a'; expected some of liver, tumour, lung"),
        ({"a": ["Liver"]}, "has a class that there is not for 'a'; expected some of liver, tumour, lung; found Liver"),
    ],
)
def test_what_is_refused(value, problem):
    with pytest.raises(UserError, match=rf"^data/dataset\.json: 'annotated' {problem}"):
        parse(value)


def test_names_of_no_case_and_classes_of_none():
    annotations = parse({"a": ["liver", "tumour"], "x_*": ["lung"], "y": ["lung"]})
    with pytest.raises(UserError, match=r"'annotated' has cases that are not in the dataset; found y$"):
        annotations.require_sense(["a", "b", "x_1"])
    annotations.require_sense(["a", "b", "x_1"], ["y"])
    with pytest.raises(UserError, match="classes were annotated in no case; found lung; take them out"):
        annotations.require_sense(["a"], ["y", "x_1"])


def test_an_entry_for_each_case_is_not_compared_with_every_other(monkeypatch):
    """Matching names with each other as if they were patterns takes minutes for some ten thousand cases."""
    compared = []
    monkeypatch.setattr(annotations_module, "fnmatchcase", lambda *pair: compared.append(pair) or fnmatchcase(*pair))
    names = [f"case{number}" for number in range(50)]
    annotations = parse({name: list(CLASSES) for name in names[:40]} | {"*9": ["liver"]})
    annotations.require_sense(names)
    assert annotations.missing("case49") == ("tumour", "lung") and annotations.missing("case48") == ()
    assert {key for _, key in compared} == {"*9"} and len(compared) <= 2 * len(names)


def test_a_mask_that_holds_the_class():
    labels, mask = Labels.parse({"background": 0, "liver": 1, "tumour": 2}, FILE), np.array([[[0, 1]]])
    require_unseen(mask, labels, ("tumour",), "a", FILE)
    with pytest.raises(UserError, match=r"case a holds class 'liver', which by 'annotated' .* was not annotated in it"):
        require_unseen(mask, labels, ("liver",), "a", FILE)


def test_a_value_of_an_annotated_region_may_be_of_another():
    labels, mask = Labels.parse(REGIONS, FILE, [1, 2]), np.array([[[0, 2]]])
    require_unseen(mask, labels, ("core",), "a", FILE)  # a core is in the whole
    require_unseen(mask, labels, ("whole",), "a", FILE)
    with pytest.raises(UserError, match="holds class 'whole'"):
        require_unseen(np.array([[[0, 1]]]), labels, ("whole",), "a", FILE)


def test_cases_of_a_dataset(make, tmp_path):
    masks = {"a": (0, 1, 0), "b": (0, 2, 0), "c": (0, 1, 2)}
    dataset = load_dataset(make(masks, annotated={"a": ["liver"], "b": ["lung"]}))
    assert [case.not_annotated for case in dataset.cases] == [("lung",), ("liver",), ()]
    for case in dataset.cases:
        check_case(case, dataset)
    make({}, annotated={"c": ["liver"]})
    dataset = load_dataset(tmp_path)
    with pytest.raises(UserError, match=r"labelsTr/c\.png: case c holds class 'lung'.*; add 'lung' to the classes"):
        check_case(dataset.cases[2], dataset)


def test_test_cases_may_be_named(make, tmp_path):
    folder = make({"a": (0, 1, 2)}, annotated={"t": ["lung"]})
    with pytest.raises(UserError, match="not in the dataset; found t"):
        load_dataset(folder)
    png(folder / "labelsTs" / "t.png", 0, 2, 0)
    assert load_dataset(folder).cases[0].not_annotated == ()
    assert load_definitions(folder / "dataset.json").annotations.missing("t") == ("liver",)
