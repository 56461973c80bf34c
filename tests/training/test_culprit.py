"""A loss that is not finite: which step, which case, what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.preprocessing.store import Store
from delightsam_pipeline.training.culprit import not_finite
from delightsam_pipeline.training.loading import batches
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.ranks import Ranks
from delightsam_pipeline.training.setup import Options, start


@pytest.fixture
def store(make_store, blobs):
    short = {"training": {"batch_size": 2, "steps_per_epoch": 8}, "patch_size": (64, 64)}
    return make_store("Dataset001_US", "ultrasound", *blobs(5, seed=1), **short)


def begin(store, folder):
    return start({"us": store}, folder, Options("0", epochs=2), choose_device("cpu"))


def with_broken_pixels(store, folder, which):
    """The name of a training case, which has them from now on."""
    case = begin(store, folder).sources["us"].cases[which]
    file = case.folder / f"{case.name}.slices.npy"
    slices = np.load(file)
    slices[0, 0, 20:40, 20:40] = np.inf
    np.save(file, slices)
    return case.name


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the augmentation
@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_all_name_the_case(store, tmp_path, rank):
    name = with_broken_pixels(store, tmp_path / "unused", 1)
    run = begin(Store.load(store.folder), tmp_path / "model")
    loader = batches(run.sources, run.options.seed, 0, 0)
    step = next(step for step, batch in enumerate(loader) if batch["cases"].count(name) == 1)
    run.ranks = Ranks(rank, 2)
    assert f"since pixels of {name} are not" in str(not_finite(run, step))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the augmentation
def test_a_case_with_broken_pixels_is_named(store, tmp_path):
    broken = with_broken_pixels(store, tmp_path / "unused", 1)
    run = begin(Store.load(store.folder), tmp_path / "model")
    pattern = rf"us: the loss is not a finite number, since pixels of {broken} are not; found step \d+ \(epoch 1\); "
    with pytest.raises(UserError, match=pattern + rf"preprocessed as such: {broken} in 1 of its slices; mend"):
        train(run)
    assert not (tmp_path / "model" / "last.pt").exists()


def test_training_that_diverges_is_told_from_broken_cases(store, tmp_path):
    run = begin(store, tmp_path)

    def break_the_network():
        if run.progress.step == 5:
            torch.nn.init.constant_(run.model.heads["us"].queries, float("nan"))
        return False

    with pytest.raises(UserError, match=r"found step 6 \(epoch 1\), all images of which are finite .*learning_rate"):
        train(run, break_the_network)


def test_weights_that_are_not_finite_do_not_replace_a_checkpoint(store, tmp_path):
    run = begin(store, tmp_path)
    assert not train(run, lambda: run.progress.step == 3)
    before = (tmp_path / "last.pt").read_bytes()
    again = begin(store, tmp_path)
    next(iter(again.average.tensors.values())).fill_(float("nan"))
    with pytest.raises(UserError, match="not a finite number"):
        train(again, lambda: True)
    assert (tmp_path / "last.pt").read_bytes() == before
