"""The measures of the De-LightSAM authors' own evaluation, to compare with their paper and for nothing else.

Their script takes everything that is not background for one object, scores every image at 1024 x 1024, smooths Dice and
IoU by 1, so that an empty prediction of an empty mask scores 1, and drops the Hausdorff distance where a mask is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from delightsam_pipeline.data.annotations import Annotations
from delightsam_pipeline.data.image import Image, nearest
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.evaluation.folders import compare_folders
from delightsam_pipeline.evaluation.metrics import Ids, Metrics, label_mask
from delightsam_pipeline.evaluation.summary import defined_means, label_key
from delightsam_pipeline.evaluation.surfaces import surface_distances
from delightsam_pipeline.evaluation.tables import columns, number, shortened

SIDE, SMOOTH = 1024, 1
SENTENCE = "for comparison with the De-LightSAM paper only: its measures hide errors that the ordinary ones show"


def paper_summary(
    reference: Path, prediction: Path, labels: Labels, annotations: Annotations | None = None
) -> dict[str, Any]:
    """The authors' measures of two folders, with the arguments and errors of `compare_folders`; ready for JSON.

    Its structure is that of `summarise`, with Dice, IoU and HD (pixels of 1024 x 1024) of all classes as one; a case of
    many slices has the mean over them. A case where not all classes were annotated cannot be scored: a UserError too.
    """
    names = {"foreground": tuple(sorted({value for ids in labels.ids for value in ids}))}

    def measure(expected: Image, predicted: Image, missing: tuple[str, ...]) -> dict[str, Metrics]:
        if missing:
            problem = "cannot be scored by the paper's protocol, which takes all classes for one object"
            raise UserError(problem, file=expected.source, found=f"{', '.join(missing)} not annotated")
        return paper_metrics(predicted.array[0], expected.array[0], names, labels.ignore)

    results = compare_folders(reference, prediction, labels, measure, annotations)
    means = {name: defined_means([result.metrics[name] for result in results]) for name in names}
    return {
        "protocol": SENTENCE,
        "foreground_mean": defined_means(list(means.values())),
        "mean": {label_key(names[name]): mean for name, mean in means.items()},
        "metric_per_case": [
            {
                "name": result.name,
                "metrics": {label_key(names[name]): result.metrics[name] for name in names},
                "reference_file": result.reference_file,
                "prediction_file": result.prediction_file,
            }
            for result in results
        ],
        "classes": {label_key(ids): name for name, ids in names.items()},
    }


def paper_metrics(
    prediction: np.ndarray, reference: np.ndarray, labels_ids: Mapping[str, Ids], ignore: int | None = None
) -> dict[str, Metrics]:
    """Per class the mean over the slices of two label maps [z y x] of Dice, IoU and HD at 1024 x 1024.

    Volumes are cut along z, images of one slice in its plane.
    """
    axis = reference.shape.index(1) if 1 in reference.shape else 0
    rows: dict[str, list[Metrics]] = {name: [] for name in labels_ids}
    for pair in zip(np.moveaxis(prediction, axis, 0), np.moveaxis(reference, axis, 0), strict=True):
        predicted, expected = (nearest(labels, (SIDE, SIDE)) for labels in pair)
        for name, ids in labels_ids.items():
            mask = label_mask(predicted, ids)
            if ignore is not None:
                mask &= expected != ignore
            rows[name].append(_scores(mask, label_mask(expected, ids)))
    return {name: defined_means(of_slices) for name, of_slices in rows.items()}


def paper_table(summary: Mapping[str, Any]) -> str:
    """Lines of text: class, Dice, IoU, HD, and the sentence on what they are good for."""
    rows = [("class", "Dice", "IoU", "HD px")]
    named = [(shortened(name), summary["mean"][key]) for key, name in summary["classes"].items()]
    for name, mean in [*named, ("mean", summary["foreground_mean"])]:
        rows.append((name, number(mean["Dice"]), number(mean["IoU"]), number(mean["HD"], 2)))
    return f"{columns(rows)}\n{SENTENCE}"


def _scores(predicted: np.ndarray, expected: np.ndarray) -> Metrics:
    hits, both = (int(np.count_nonzero(m)) for m in (predicted & expected, predicted | expected))
    hd: float | None = None
    if predicted.any() and expected.any():
        hd = float(max(distances.max() for distances in surface_distances(predicted, expected, (1, 1))))
    dice, iou = (2 * hits + SMOOTH) / (hits + both + SMOOTH), (hits + SMOOTH) / (both + SMOOTH)
    return {"Dice": dice, "IoU": iou, "HD": hd}
