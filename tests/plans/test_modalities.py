"""The table of modalities."""

from __future__ import annotations

from delightsam_pipeline.plans.modalities import TABLE, lookup, of_name

NAMES = ["dermoscopy", "X-ray", "ultrasound", "fundus", "microscopy", "endoscopy", "CT", "MRI", "PET", "OCT"]


def test_ids_as_released():
    assert [row.id for row in TABLE] == list(range(10))
    assert [row.name for row in TABLE] == NAMES


def test_no_word_means_two_modalities():
    for row in TABLE:
        assert all(lookup(word) is row for word in (row.name, *row.aliases))


def test_a_modality_of_ones_own():
    colour, grey = of_name("Thermography", 3), of_name("Thermography", 1)
    assert colour.id is None and colour.name == "Thermography"
    assert (colour.normalisation, colour.colour) == ("photograph", True)
    assert (grey.normalisation, grey.colour) == ("z-score", False)
    assert of_name("cbct", 1).id == 6
