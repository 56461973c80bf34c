"""Classes that were not annotated in a case: what the loss, the batches and the validation make of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch

from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.model_folder import head_spec
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.preprocessing.run import plan_dataset, preprocess
from delightsam_pipeline.preprocessing.store import Store
from delightsam_pipeline.training.augmentation import transforms
from delightsam_pipeline.training.loading import Source, make_batch
from delightsam_pipeline.training.losses import mask_loss, mask_sums, patch_targets
from delightsam_pipeline.training.setup import Options, start
from delightsam_pipeline.training.step import annotated_targets, task_loss
from delightsam_pipeline.training.validation import validate

CPU = choose_device("cpu")
LABELS = torch.tensor([[[0, 1], [0, 0]], [[0, 2], [2, 0]]])  # two images of 2 x 2 pixels
FIRST_LACKS_TWO = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
ALL = torch.ones(2, 2)


def masks(labels):
    return torch.stack([labels == 1, labels == 2], dim=1).float()


def loss(logits, annotated, exclusive, labels=LABELS):
    return mask_loss(mask_sums(logits, masks(labels), torch.ones(len(labels), 1, 2, 2), exclusive, annotated))


def test_exclusive_classes_by_hand():
    # all shares are a third. First image: background 3 times, 2/3 with the class nobody drew; class 1 once
    logits = torch.zeros(2, 2, 2, 2)
    first = 3 * log(3 / 2) + log(3)
    one = 1 - ((2 / 3 + 1) / (4 / 3 + 1 + 1) + 1) / 2  # the second class is nowhere annotated: it costs nothing
    assert loss(logits[:1], FIRST_LACKS_TWO[:1], True, LABELS[:1]).item() == pytest.approx(first / 4 + one, rel=1e-6)
    # both: class 1 is a third of 8 pixels, one of them right; class 2 counts in the second image alone, two right
    both = 1 - ((2 / 3 + 1) / (8 / 3 + 1 + 1) + (4 / 3 + 1) / (4 / 3 + 2 + 1)) / 2
    assert loss(logits, FIRST_LACKS_TWO, True).item() == pytest.approx((first + 4 * log(3)) / 8 + both, rel=1e-6)


def test_regions_by_hand():
    # shares of 3/4 for the first region and 1/2 for the second, which counts in the second image alone
    logits = torch.stack([torch.full((2, 2, 2), log(3)), torch.zeros(2, 2, 2)], dim=1)
    first = (7 * log(4) - log(3 / 4)) + 4 * log(2)  # the first region is there in one of its 8 pixels
    dice = (2 * 3 / 4 + 1) / (8 * 3 / 4 + 1 + 1) + (2 * 1 + 1) / (4 / 2 + 2 + 1)
    expected = 1 - dice / 2 + first / 12
    assert loss(logits, FIRST_LACKS_TWO, False).item() == pytest.approx(expected, rel=1e-6)


def test_between_background_and_what_is_not_annotated_there_is_no_choice():
    """Where the labels say background, its share may be the other class's: neither loss nor gradient tells."""
    shares = torch.tensor([0.5, 0.2, 0.3])  # background, 1, 2
    other = torch.tensor([0.1, 0.2, 0.7])
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    values, gradients = [], []
    for each in (shares, other):
        logits = (each[1:] / each[0]).log().view(1, 2, 1, 1).repeat(1, 1, 2, 2).requires_grad_()
        value = loss(logits, FIRST_LACKS_TWO[:1], True, labels)
        value.backward()
        values.append(value.item())
        gradients.append(logits.grad[0, :, 0, 0])
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    # logit 2 grows by 1, logit 1 so that its share stays: a step that moves share between the other two alone
    for each, gradient in zip((shares, other), gradients, strict=True):
        along = gradient[1] + gradient[0] * (each[2] / (1 - each[1]))
        assert gradient[0] > 0 and along.item() == pytest.approx(0, abs=1e-7)


def test_a_region_that_is_not_annotated_gets_no_gradient():
    logits = torch.randn(2, 2, 2, 2, requires_grad=True)
    loss(logits, FIRST_LACKS_TWO, False).backward()
    assert not logits.grad[0, 1].any()
    assert logits.grad[0, 0].all() and logits.grad[1].all()
    wild = logits.detach().clone()
    wild[0, 1] = 30
    assert loss(wild, FIRST_LACKS_TWO, False) == loss(logits, FIRST_LACKS_TWO, False)


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_the_labels_say_of_it_does_not_count(exclusive):
    """A region that was not annotated has target pixels where it shares values with one that was."""
    logits, targets, valid = torch.randn(2, 2, 2, 2), masks(LABELS), torch.ones(2, 1, 2, 2)
    expected = mask_loss(mask_sums(logits, targets, valid, exclusive, FIRST_LACKS_TWO))
    targets[0, 1, 1] = 1
    assert mask_loss(mask_sums(logits, targets, valid, exclusive, FIRST_LACKS_TWO)) == expected


@pytest.mark.parametrize("exclusive", [True, False])
def test_with_everything_annotated_nothing_changes(exclusive):
    grids = [torch.randn(2, 2, 2, 2).requires_grad_()]
    grids.append(grids[0].detach().clone().requires_grad_())
    values = [loss(grid, annotated, exclusive) for grid, annotated in zip(grids, (None, ALL), strict=True)]
    for value in values:
        value.backward()
    assert values[0].item() == values[1].item() and torch.equal(grids[0].grad, grids[1].grad)
    device = choose_device("cpu")
    assert annotated_targets({"annotated": np.ones((2, 2), bool)}, device) is None
    assert annotated_targets({"annotated": np.array([[True, False]])}, device).tolist() == [[1, 0]]


def test_patches_without_foreground_are_unknown():
    targets, valid = torch.zeros(2, 2, 32, 64), torch.ones(2, 1, 32, 64)
    targets[:, 0, 3, 3] = 1
    targets[0, 1, 3, 40] = 1  # of a class that was not annotated: does not count
    foreground, known = patch_targets(targets, valid, FIRST_LACKS_TWO)
    assert foreground[:, 0, 0].tolist() == [[1, 0], [1, 0]]
    assert known[:, 0, 0].tolist() == [[1, 0], [1, 1]]


@pytest.fixture(scope="module")
def store(make_store, blobs):
    """A store of exclusive classes "lesion" and "other", which was annotated in case2 alone."""
    images, shapes = blobs(3)
    shapes[2] = np.where(np.arange(64) < 32, shapes[2], 2 * shapes[2]).astype(np.uint8)
    labels = {"background": 0, "lesion": 1, "other": 2}
    entries = {"labels": labels, "annotated": {f"case{n}": ["lesion"] for n in (0, 1)}}
    return make_store("Dataset001_Part", "ultrasound", images, shapes, entries=entries, patch_size=(64, 64))


def test_batches_say_what_was_annotated(store):
    assert [case.not_annotated for case in store.cases.values()] == [(1,), (1,), ()]
    source = Source.of(store, list(store.cases))
    batch = make_batch({"a": source}, {"a": transforms(store.plan)}, 0, 0)
    assert batch["annotated"].shape == (len(batch["images"]), 2)
    model = DeLightSAM({"a": head_spec(store.plan)})
    value, figures = task_loss(model, batch, store.plan, CPU)
    value.backward()
    assert torch.isfinite(value) and all(torch.isfinite(v).all() for v in figures.values())
    batches = [make_batch({"a": source}, {"a": transforms(store.plan)}, 0, step) for step in range(4)]
    seen = {tuple(row) for each in batches for row in each["annotated"].tolist()}
    assert seen == {(True, False), (True, True)}


def test_a_changed_entry_costs_no_preprocessing_but_another_run(store, tmp_path):
    raw, changed = store.folder.parents[1] / "raw" / store.folder.name, tmp_path / store.folder.name
    shutil.copytree(store.folder, changed)
    before = {path: path.stat().st_mtime_ns for path in (changed / "cases").iterdir()}
    file, plan = raw / "dataset.json", (changed / "plan.json").read_text()
    kept = file.read_text()
    file.write_text(json.dumps(json.loads(kept) | {"annotated": {"case0": ["lesion"]}}))
    dataset = load_dataset(raw)
    plan_dataset(dataset, changed, workers=1)
    (changed / "plan.json").write_text(plan)
    assert preprocess(dataset, store.plan, changed, workers=1) == 0
    file.write_text(kept)
    again = Store.load(changed)
    assert [case.not_annotated for case in again.cases.values()] == [(1,), (), ()]
    assert {path: path.stat().st_mtime_ns for path in (changed / "cases").iterdir()} == before
    runs = [start({"a": each}, tmp_path / "run", Options("all", 1), CPU) for each in (store, again)]
    assert runs[0].setup != runs[1].setup


def test_foreground_is_not_drawn_from_what_was_not_annotated(store):
    case = next(iter(store.cases.values()))
    assert case.present == ((0,), ())
    file = store.folder / "annotated.json"
    kept = file.read_text()
    file.write_text(json.dumps({"case0": ["other"]}))
    assert Store.load(store.folder).cases["case0"].present == ((), ())
    file.write_text(json.dumps({"case0": ["nobody"]}))
    with pytest.raises(UserError, match=r"annotated\.json: is not a map from case to classes of plan\.json"):
        Store.load(store.folder)
    file.write_text(kept)


def test_validation_leaves_out_what_was_not_annotated(store):
    model = DeLightSAM({"a": head_spec(store.plan)}).eval()
    summary, _ = validate(model, "a", store.plan, list(store.cases.values()), CPU, surfaces=True)
    lesion, other = summary["mean"]["1"], summary["mean"]["2"]
    assert (lesion["n_cases"], lesion["n_not_annotated"]) == (3, 0)
    assert (other["n_cases"], other["n_not_annotated"]) == (1, 2)
    assert [row["metrics"]["2"]["n_ref"] is None for row in summary["metric_per_case"]] == [True, True, False]
    whole = [replace(case, not_annotated=()) for case in store.cases.values()]
    assert validate(model, "a", store.plan, whole, CPU)[0]["mean"]["2"]["n_cases"] == 3
