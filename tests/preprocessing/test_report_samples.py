"""Which cases a report shows."""

from __future__ import annotations

from pathlib import Path

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.plans.findings import Finding
from delightsam_pipeline.plans.fingerprint import Fingerprint
from delightsam_pipeline.plans.looks import CaseFacts
from delightsam_pipeline.preprocessing.report.samples import MOST, choose

CLASSES = Labels.parse({"background": 0, "lesion": 1, "vessel": 2}, Path("dataset.json"))


def facts(name: str, volume: float, second: float = 0.0, mean: float = 100.0, **changes) -> CaseFacts:
    sizes = {"lesion": volume, "vessel": second}
    values = {
        "name": name,
        "shape": (20, 50, 40),
        "spacing": (2.0, 1.0, 1.0),
        "physical": True,
        "orientation": "RAS",
        "dtype": "int16",
        "nonzero_box": (20, 50, 40),
        "nonzero_share": 1.0,
        "intensities": [{"mean": mean, "median": mean}],
        "voxels": {key: int(1000 * size) for key, size in sizes.items()},
        "volume": sizes,
        "components": {key: int(size > 0) for key, size in sizes.items()},
        "component_size": {key: 1000 * size for key, size in sizes.items()},
        "largest_component": {key: int(1000 * size) for key, size in sizes.items()},
        "position": {},
        "survival": {},
        "not_annotated": [],
        "image_sha256": [],
        "label_sha256": "",
        "notes": [],
    }
    return CaseFacts(**values | changes)


def fingerprint_of(cases: list[CaseFacts], findings=()) -> Fingerprint:
    return Fingerprint(
        dataset="d",
        inputs="",
        physical=True,
        dtype="int16",
        channel_names=["T1"],
        modality="MRI",
        modality_confidence=1,
        modality_evidence="given",
        intensities=[{}],
        findings=list(findings),
        cases=cases,
    )


def test_samples_are_the_ends_the_outliers_and_the_missing_classes():
    cases = [facts(f"c{n:02d}", 10 + n, mean=100 + n % 3) for n in range(20)]
    cases[4] = facts("large", 14.5, shape=(40, 90, 90))
    cases[6] = facts("coarse", 16.5, spacing=(2.0, 3.0, 3.0))
    cases[7] = facts("bright", 17.5, mean=150)
    cases[9] = facts("both", 19.5, second=1)
    cases[11] = facts("empty", 0)
    found = [Finding(level="warning", file="x", problem="odd", case="c12")]
    chosen = choose(fingerprint_of(cases, found), CLASSES)
    assert list(chosen) == ["c00", "c10", "c19", "large", "coarse", "bright", "empty", "c12"]
    assert len(chosen) == MOST
    del cases[12], cases[11]
    assert choose(fingerprint_of(cases), CLASSES)["both"] == ["holds vessel"]


def test_few_cases_that_are_alike_come_once():
    cases = [facts(name, 10) for name in ("a", "b")]
    chosen = choose(fingerprint_of(cases), CLASSES)
    assert sorted(chosen) == ["a", "b"] and sum(map(len, chosen.values())) >= 3
