"""Losses against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from delightsam_pipeline.training.losses import (
    mask_loss,
    mask_sums,
    patch_counts,
    patch_loss,
    patch_sums,
    patch_targets,
)


def soft_dice(shares, targets):
    """Mean over classes of batch Dice with one pixel of smoothing; [B, K, H, W] arrays."""
    axes = (0, 2, 3)
    return np.mean((2 * (shares * targets).sum(axes) + 1) / (shares.sum(axes) + targets.sum(axes) + 1))


def case(classes, seed=0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (2, classes, 4, 5)).astype(np.float32)
    labels = generator.integers(0, classes + 1, (2, 4, 5))
    targets = np.stack([labels == k + 1 for k in range(classes)], axis=1).astype(np.float32)
    return logits, labels, targets


def loss(logits, targets, valid=None, exclusive=True):
    logits, targets = torch.as_tensor(logits), torch.as_tensor(targets)
    valid = torch.ones_like(logits[:, :1]) if valid is None else torch.as_tensor(valid)
    return mask_loss(mask_sums(logits, targets, valid, exclusive)).item()


def test_one_pixel_by_hand():
    # share 0.75 of a pixel that is foreground: Dice (2 * 0.75 + 1) / (1.75 + 1), cross-entropy -log 0.75
    logits = np.full((1, 1, 1, 1), math.log(3), np.float32)
    expected = 1 - 2.5 / 2.75 - math.log(0.75)
    assert loss(logits, np.ones_like(logits)) == pytest.approx(expected, abs=1e-6)


def test_one_class_is_a_sigmoid():
    logits, _, targets = case(1)
    shares = 1 / (1 + np.exp(-logits))
    entropy = -np.mean(targets * np.log(shares) + (1 - targets) * np.log(1 - shares))
    expected = 1 - soft_dice(shares, targets) + entropy
    assert loss(logits, targets, exclusive=True) == pytest.approx(expected, rel=1e-5)
    assert loss(logits, targets, exclusive=False) == pytest.approx(expected, rel=1e-5)


def test_two_classes_are_a_softmax_over_a_background_of_zero():
    logits, labels, targets = case(2)
    entropy, shares = [], np.zeros_like(logits)
    for b, y, x in np.ndindex(labels.shape):
        powers = np.exp([0.0, *logits[b, :, y, x]])
        share = powers / powers.sum()
        shares[b, :, y, x] = share[1:]
        entropy.append(-np.log(share[labels[b, y, x]]))
    expected = 1 - soft_dice(shares, targets) + np.mean(entropy)
    assert loss(logits, targets) == pytest.approx(expected, rel=1e-5)


def test_regions_overlap():
    logits, labels, _ = case(2)
    targets = np.stack([labels > 0, labels == 1], axis=1).astype(np.float32)
    shares = 1 / (1 + np.exp(-logits))
    entropy = -np.mean(targets * np.log(shares) + (1 - targets) * np.log(1 - shares))
    expected = 1 - soft_dice(shares, targets) + entropy
    assert loss(logits, targets, exclusive=False) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_is_not_valid_changes_nothing(exclusive):
    logits, _, targets = case(2)
    valid = np.ones((2, 1, 4, 5), np.float32)
    valid[:, :, :2] = 0
    before = loss(logits, targets, valid, exclusive)
    assert before == pytest.approx(loss(logits[:, :, 2:], targets[:, :, 2:], None, exclusive), rel=1e-5)
    logits[:, :, :2], targets[:, :, :2] = 50, 1
    assert loss(logits, targets, valid, exclusive) == before
    given = torch.tensor(logits, requires_grad=True)
    mask_loss(mask_sums(given, torch.tensor(targets), torch.tensor(valid), exclusive)).backward()
    assert not given.grad[:, :, :2].any() and given.grad[:, :, 2:].any()


@pytest.mark.parametrize("exclusive", [True, False])
def test_perfect_is_near_zero_and_wrong_is_not(exclusive):
    _, _, targets = case(2)
    assert loss(40 * (2 * targets - 1), targets, None, exclusive) < 1e-5
    assert loss(-40 * (2 * targets - 1), targets, None, exclusive) > 5


@pytest.mark.parametrize("exclusive", [True, False])
def test_absent_classes_and_unknown_batches_are_finite(exclusive):
    logits, _, targets = case(2)
    nothing = np.zeros_like(targets)
    assert loss(np.full_like(logits, -40), nothing, None, exclusive) == pytest.approx(0, abs=1e-5)
    for valid in (None, np.zeros((2, 1, 4, 5), np.float32)):
        given = torch.tensor(logits, requires_grad=True)
        valid = torch.ones(2, 1, 4, 5) if valid is None else torch.tensor(valid)
        value = mask_loss(mask_sums(given, torch.tensor(nothing), valid, exclusive))
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(given.grad).all()


def test_patches_by_hand():
    targets, valid = torch.zeros(1, 2, 64, 128), torch.ones(1, 1, 64, 128)
    targets[0, 1, 31, 31] = 1  # last pixel of the first patch, second class
    targets[0, 0, 40, 40], valid[0, 0, 60, 60] = 1, 0  # foreground beside an unknown pixel: known
    valid[0, 0, 5, 64:96] = 0  # nothing seen, but not all of it is valid: unknown
    targets[0, 0, 50, 70], valid[0, 0, 50, 70] = 1, 0  # foreground that is not valid does not count
    foreground, known = patch_targets(targets, valid)
    assert foreground.tolist() == [[[[1, 0, 0, 0], [0, 1, 0, 0]]]]
    assert known.tolist() == [[[[1, 1, 0, 1], [1, 1, 0, 1]]]]


def test_patch_loss_and_counts_by_hand():
    logits = torch.tensor([[[[2.0, -1.0, 3.0], [-2.0, 0.5, 9.0]]]])
    foreground = torch.tensor([[[[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]]])
    known = torch.tensor([[[[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]]])
    terms = [math.log1p(math.exp(v)) for v in (-2.0, 1.0, 3.0, -2.0, -0.5)]
    assert patch_loss(patch_sums(logits, foreground, known)).item() == pytest.approx(sum(terms) / 5, rel=1e-6)
    assert patch_counts(logits, foreground, known).tolist() == [2, 1, 1]
    assert patch_loss(patch_sums(logits, foreground, torch.zeros_like(known))).item() == 0


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_sums_of_parts_make_the_loss_of_the_whole(exclusive):
    logits, _, targets = (torch.as_tensor(v) for v in case(2))
    valid, annotated = torch.ones_like(logits[:, :1]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    whole = mask_sums(logits, targets, valid, exclusive, annotated)
    # as in training, where a part in which everything was annotated says so by None
    first = mask_sums(logits[:1], targets[:1], valid[:1], exclusive)
    parts = first + mask_sums(logits[1:], targets[1:], valid[1:], exclusive, annotated[1:])
    assert mask_loss(parts).item() == pytest.approx(mask_loss(whole).item(), rel=1e-6)
