"""The table of modalities, and what a dataset is by what is given, its channels and its values."""

from __future__ import annotations

import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.identification import identify
from delightsam_pipeline.plans.modalities import TABLE, lookup, of_name

NAMES = ["dermoscopy", "X-ray", "ultrasound", "fundus", "microscopy", "endoscopy", "CT", "MRI", "PET", "OCT"]
CT_VALUES = {"physical": True, "lowest": -1024, "highest": 2500, "air_share": 0.4}
PLAIN_VALUES = {"physical": True, "lowest": 0, "highest": 255, "air_share": 0.0}


def test_ids_as_released():
    assert [row.id for row in TABLE] == list(range(10))
    assert [row.name for row in TABLE] == NAMES


def test_no_word_means_two_modalities():
    for row in TABLE:
        assert all(lookup(word) is row for word in (row.name, *row.aliases))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *zip(NAMES, NAMES, strict=True),
        ("colonoscopy", "endoscopy"),
        ("XRAY", "X-ray"),
        ("x ray", "X-ray"),
        ("mr", "MRI"),
        ("US", "ultrasound"),
        ("Histology", "microscopy"),
    ],
)
def test_given_by_name_or_alias(given, name):
    evidence = identify(given, ["whatever"], **CT_VALUES)  # what is given goes before the values
    assert (evidence.modality, evidence.confidence) == (name, 1.0)
    assert given in evidence.reason


def test_a_modality_of_ones_own_keeps_its_name():
    evidence = identify("Thermography", ["T1"], **PLAIN_VALUES)
    assert evidence.modality == "Thermography" and "your own" in evidence.reason
    colour, grey = of_name("Thermography", 3), of_name("Thermography", 1)
    assert colour.id is None and colour.name == "Thermography"
    assert (colour.normalisation, colour.colour) == ("photograph", True)
    assert (grey.normalisation, grey.colour) == ("z-score", False)
    assert of_name("cbct", 1).id == 6


@pytest.mark.parametrize(
    ("channels", "name"),
    [
        (["CT"], "CT"),
        (["T1", "T2", "FLAIR"], "MRI"),
        (["t1w"], "MRI"),
        (["PET"], "PET"),
        (["ultrasound"], "ultrasound"),
    ],
)
def test_by_channel_names(channels, name):
    evidence = identify(None, channels, **PLAIN_VALUES)
    assert evidence.modality == name and 0.5 < evidence.confidence < 1
    assert all(channel in evidence.reason for channel in channels)


def test_ct_by_its_values():
    evidence = identify(None, ["image"], **CT_VALUES)
    assert evidence.modality == "CT" and "-1024" in evidence.reason and "40%" in evidence.reason


@pytest.mark.parametrize(
    "change",
    [{"physical": False}, {"lowest": 0}, {"highest": 100}, {"air_share": 0.0}, {"lowest": -30000}],
)
def test_values_that_are_not_quite_ct(change):
    with pytest.raises(UserError, match="modality"):
        identify(None, ["image"], **(CT_VALUES | change))


@pytest.mark.parametrize("channels", [["R", "G", "B"], ["CT", "PET"], ["T1", "unknown"], ["image", "image 2"]])
def test_not_sure_asks_for_one_word(channels):
    with pytest.raises(UserError) as error:
        identify(None, channels, **CT_VALUES)
    text = str(error.value)
    assert all(name in text for name in [*NAMES, *channels, "--modality", "dataset.json"])
