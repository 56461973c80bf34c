"""What a step makes of labels, and what an epoch's sums say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.training.step import Sums, target_masks


def plan(ids, ignore=None):
    names = tuple("abc"[: len(ids)])
    return SimpleNamespace(targets=Labels(names, ids, tuple(v[0] for v in ids), frozenset(range(5)), ignore))


def test_classes_and_unknown_pixels():
    masks, valid = target_masks(torch.tensor([[[0, 1, 2, -1]]], dtype=torch.int16), plan(((1,), (2,))))
    assert masks.tolist() == [[[[0, 1, 0, 0]], [[0, 0, 1, 0]]]]
    assert valid.tolist() == [[[[1, 1, 1, 0]]]]


def test_regions_and_the_ignore_label():
    masks, valid = target_masks(torch.tensor([[[0, 1, 2, 3]]], dtype=torch.int16), plan(((1, 2), (2,)), ignore=3))
    assert masks.tolist() == [[[[0, 1, 1, 0]], [[0, 0, 1, 0]]]]
    assert valid.tolist() == [[[[1, 1, 1, 0]]]]


def test_sums():
    sums = Sums()
    for loss, counts in ((1.5, [5.0, 0.0, 4.0]), (0.5, [1.0, 2.0, 0.0])):
        sums.add({"mask_loss": torch.tensor(loss), "patches": torch.tensor(counts)})
    assert sums.row() == pytest.approx({"mask_loss": 1.0, "patch_precision": 0.75, "patch_recall": 0.6})
    nothing = Sums()
    nothing.add({"patches": torch.zeros(3)})
    assert nothing.row() == {"patch_precision": 0, "patch_recall": 0}
