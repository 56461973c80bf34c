"""Images that are there twice, exactly or nearly: a fold that trains on one and validates on the other deceives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.splits import Split
from delightsam_pipeline.errors import listed
from delightsam_pipeline.plans.findings import Finding

if TYPE_CHECKING:
    from delightsam_pipeline.plans.looks import Look

# Correlations of thumbnails. Of 414 images of eight public datasets, all eight pairs above both are frames of one
# video; the nearest strangers are two eyes, 0.986 as they are and 0.72 with the dataset's mean thumbnail taken off.
_ALIKE, _ALIKE_BESIDE_MEAN = 0.95, 0.9
_SAME = 0.998  # alone
_ENOUGH_FOR_MEAN = 10
_BLOCK = 1024
_SHOWN = 5
Clusters = list[list[str]]
Folds = list[tuple[set[str], set[str]]]  # train, val


def duplicates(looks: Mapping[str, Look], cases: Mapping[str, Case], splits: Sequence[Split]) -> list[Finding]:
    """Cases with the same image, and cases with nearly the same that a fold trains and validates on.

    looks, cases : by name.
    """
    # the one fold of a dataset that is one group trains on what it validates on, which is told elsewhere
    folds = [(set(s["train"]), set(s["val"])) for s in splits if s["train"] != s["val"]]
    names = sorted(looks)
    by_content: dict[str, list[str]] = {}
    for name in names:
        by_content.setdefault(looks[name].content, []).append(name)
    same = [cluster for cluster in by_content.values() if len(cluster) > 1]
    found = [_exact(cluster, looks, cases, folds) for cluster in same]
    firsts = [cluster[0] for cluster in by_content.values()]  # the others are told of
    fix = 'if they are of one patient or video, give them the same "group" in dataset.json'
    for cluster in _alike(firsts, looks):
        if len({cases[name].group for name in cluster}) > 1 and _is_parted(cluster, folds):
            problem = f"nearly the same image is trained and validated on; {listed(cluster, _SHOWN)} look alike"
            found.append(_warning(cluster, cases, problem, fix))
    return found


def _exact(cluster: list[str], looks: Mapping[str, Look], cases: Mapping[str, Case], folds: Folds) -> Finding:
    differ = len({looks[name].facts.label_sha256 for name in cluster}) > 1
    masks = ", with masks that differ" if differ else ""
    if _is_parted(cluster, folds):
        problem = f"the same image is trained and validated on; {listed(cluster, _SHOWN)} are one image{masks}"
        fix = 'leave all but one out, or give them the same "group" in dataset.json'
        return _warning(cluster, cases, problem, fix)
    problem = f"the same image is there several times; {listed(cluster, _SHOWN)} are one image{masks}"
    return _warning(cluster, cases, problem, "leave all but one out, unless that is meant")


def _warning(cluster: list[str], cases: Mapping[str, Case], problem: str, fix: str) -> Finding:
    first = cases[cluster[0]]
    return Finding(level="warning", file=str(first.images[0]), problem=problem, fix=fix, case=first.name)


def _is_parted(cluster: list[str], folds: Folds) -> bool:
    """Whether any fold trains on some of these cases and validates on others."""
    return any(not train.isdisjoint(cluster) and not val.isdisjoint(cluster) for train, val in folds)


def _alike(names: list[str], looks: Mapping[str, Look]) -> Clusters:
    """Clusters of cases whose thumbnails are hardly different."""
    if len(names) < 2:
        return []
    pixels = np.array([looks[name].thumbnail.ravel() for name in names], np.float32)
    shapes = np.array([looks[name].facts.shape for name in names])
    plain, beside_mean = _normed(pixels), _normed(pixels - pixels.mean(axis=0))
    first = np.arange(len(names))  # of the images that each is known to be alike with
    for start in range(0, len(names), _BLOCK):
        block = slice(start, start + _BLOCK)
        correlation = plain[block] @ plain.T
        alike = correlation >= _SAME
        if len(names) >= _ENOUGH_FOR_MEAN:
            frames = (correlation >= _ALIKE) & (beside_mean[block] @ beside_mean.T >= _ALIKE_BESIDE_MEAN)
            alike |= frames & (shapes[block][:, None] == shapes).all(axis=2)
        row, column = np.nonzero(np.triu(alike, start + 1))
        first = _joined(first, row + start, column)
    clusters: dict[int, list[str]] = {}
    for name, n in zip(names, first, strict=True):
        clusters.setdefault(int(n), []).append(name)
    return [cluster for cluster in clusters.values() if len(cluster) > 1]


def _joined(first: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The first of the images that each is alike with, [N] as before, after these pairs are known as well."""
    if not rows.size:
        return first
    from scipy.sparse import coo_array  # a third of a second, for what hardly any dataset has
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([np.arange(len(first)), rows]), np.concatenate([first, columns])
    graph = coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(len(first), len(first)))
    _, number = connected_components(graph, directed=False)
    return np.unique(number, return_index=True)[1][number]


def _normed(pixels: np.ndarray) -> np.ndarray:
    """[N, P] with mean 0 and length 1 in each row; rows of one value are 0."""
    pixels = pixels - pixels.mean(axis=1, keepdims=True)
    length = np.linalg.norm(pixels, axis=1, keepdims=True)
    return np.divide(pixels, length, out=np.zeros_like(pixels), where=length > 1e-3)
