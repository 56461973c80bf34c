"""Label maps of a fold's held-out cases by its own network, kept beside its scores so that none is predicted twice."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from delightsam_pipeline import __version__
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import digest, read_json, writing
from delightsam_pipeline.inference.model_folder import sha256
from delightsam_pipeline.inference.predictor import Predictor
from delightsam_pipeline.plans.plan import load_plan
from delightsam_pipeline.preprocessing.store import StoredCase

log = logging.getLogger(__name__)


def held_out_labels(
    fold: Path, head: str, cases: Sequence[StoredCase], device: str = "auto"
) -> Iterator[tuple[StoredCase, np.ndarray]]:
    """(case, labels [z y x] on its own grid) of stored cases, by the model in the folder `fold`.

    Kept in validation/HEAD/labels, and read from there while the weights, what was stored of the case, and the
    version of this package are the same.
    Raises UserError when the model cannot be loaded, or the device is not there.
    """
    weights = fold / "model.safetensors"
    if not weights.is_file():
        raise UserError("the weights are missing", file=weights, fix="finish the training, or copy the file again")
    plan, sha = load_plan(fold / "plans" / f"{head}.json"), sha256(weights)
    predictor: Predictor | None = None
    for case in cases:
        file = fold / "validation" / head / "labels" / f"{case.name}.npz"
        key = digest(__version__, sha, plan.tile_overlap, read_json(case.folder / f"{case.name}.json"))
        labels = _kept(file, key, case.back.grid.shape)
        if labels is None:
            if predictor is None:
                predictor = Predictor.load(fold, device, postprocessing=False)
                log.info("%s: held-out cases of %s are predicted on %s", fold.name, head, predictor.device.reason)
            labels = predictor.segment(head, case.slices(), case.back)
            with writing(file) as temporary:
                np.savez_compressed(temporary, labels=labels, key=np.array(key))
        yield case, labels


def _kept(file: Path, key: str, shape: Sequence[int]) -> np.ndarray | None:
    """The label map of a file, if it is there and whole and was made from the same."""
    try:
        with np.load(file, allow_pickle=False) as values:
            labels = values["labels"] if str(values["key"]) == key else None
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error):
        return None
    return labels if labels is not None and labels.shape == tuple(shape) else None
