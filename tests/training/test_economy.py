"""Steps that find too little memory, and what is made of them: the same numbers, in less of it."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from delightsam_pipeline.training.compiling import compile_network
from delightsam_pipeline.training.economy import agree_on_economy, begin_with, economy, parts_in_force, rehearse
from delightsam_pipeline.training.ranks import ALONE, Ranks
from delightsam_pipeline.training.step import task_loss

_specification = importlib.util.spec_from_file_location("ranks_worker", Path(__file__).parent / "ranks_worker.py")
worker = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(worker)


def room_for(images):
    """prepare(model): its memory suffices for so many images in an inner block at once."""

    def look(_, args):
        if len(args[0]) > images:
            raise torch.OutOfMemoryError(f"no room for {len(args[0])}")

    return lambda model: model.encoder.layers[1].blocks[1].register_forward_pre_hook(look)


def room_for_recomputing(model):
    """Its memory suffices when activations are computed again."""

    def look(*_):
        if not model.scope.recompute:
            raise torch.OutOfMemoryError("no room")

    model.decoder.register_forward_pre_hook(look)


@pytest.fixture(scope="module")
def whole():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield worker.train("whole", ALONE)
    torch.set_num_threads(threads)


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_halved_batches_train_as_whole_ones(whole, caplog):
    """Batch norms, which are of the whole batch, and twenty steps; found out within the first step."""
    halved = worker.train("whole", ALONE, room_for(2))
    assert [text.partition(": ")[2] for text in warnings_of(caplog)] == [
        "activations computed again on the way back",
        "activations computed again on the way back, each block in 2 parts",
    ]
    assert len(whole["losses"]) == 20
    np.testing.assert_allclose(halved["losses"], whole["losses"], atol=1e-4)
    for name in whole:
        if "statistics" in name:
            np.testing.assert_allclose(halved[name], whole[name], atol=1e-3, rtol=1e-3, err_msg=name)


def test_recomputing_changes_no_bit(whole, monkeypatch, caplog):
    monkeypatch.setitem(worker.STEPS, "whole", 3)
    expected, cheaper = worker.train("whole", ALONE), worker.train("whole", ALONE, room_for_recomputing)
    assert len(warnings_of(caplog)) == 1
    for name, value in expected.items():
        np.testing.assert_array_equal(cheaper[name], value, err_msg=name)
    assert expected["controllers.MRI.statistics.0.batches"] == 3  # not once more for each way


def test_a_frozen_body_in_parts(monkeypatch):
    monkeypatch.setitem(worker.STEPS, "frozen", 3)
    expected, single = worker.train("frozen", ALONE), worker.train("frozen", ALONE, room_for(1))
    np.testing.assert_allclose(single["losses"], expected["losses"], atol=1e-5)
    assert all(np.array_equal(single[name], expected[name]) for name in expected if name.startswith("encoder."))


def test_less_than_one_image_cannot_be(caplog):
    with pytest.raises(torch.OutOfMemoryError, match="no room for 1"):
        worker.train("whole", ALONE, room_for(0))
    assert warnings_of(caplog)[-1].endswith("each block in 4 parts")


def gradients(model):
    def step(batch, plan):
        task_loss(model, batch, plan, worker.DEVICE)[0].backward()

    return step


def test_a_rehearsal_finds_what_fits_and_leaves_nothing():
    model = worker.network("whole").train()
    room_for(2)(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    agree_on_economy(model, {"new": worker.plan_for(4)}, gradients(model), ALONE)
    assert economy(model) == "activations computed again on the way back, each block in 2 parts"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_compiled_is_not(caplog):
    def broken(*_):
        raise RuntimeError("no compiler here")

    model = worker.network("whole").train()
    with caplog.at_level(logging.WARNING, logger="delightsam_pipeline"):
        plans = {"new": worker.plan_for(1)}
        assert not compile_network(model, lambda: rehearse(model, plans, gradients(model)), backend=broken)
    assert [text.split(" (")[0] for text in warnings_of(caplog)] == ["the network is not compiled, which fails here"]
    rehearse(model, plans, gradients(model))


def test_a_backend_that_is_not_there_leaves_the_network_as_it_is(caplog):
    model = worker.network("whole").train()
    assert not compile_network(model, lambda: None, backend="absent")
    assert [text.split(" (")[0] for text in warnings_of(caplog)] == ["the network is not compiled, which fails here"]


def test_what_needs_too_much_memory_compiled_is_not(caplog):
    def no_room(*_):
        if model._compiled_call_impl is not None:
            raise torch.OutOfMemoryError("no room")

    model = worker.network("whole").train()
    step, plans = gradients(model), {"new": worker.plan_for(1)}

    def trial():
        no_room()
        rehearse(model, plans, step)

    assert not compile_network(model, trial, backend="eager")
    assert [text.split(" (")[0] for text in warnings_of(caplog)] == ["the network is not compiled, which fails here"]
    trial()


class WithAnother(Ranks):
    """One of two processes, the other of which has found by itself that it needs four parts."""

    def gather(self, value):
        other = True, 4
        return [value, other] if self.is_first else [other, value]

    def sum(self, tensor):
        return tensor


def test_the_first_says_which_process_lacks_memory(caplog):
    model = worker.network("whole").train()
    agree_on_economy(model, {"new": worker.plan_for(4)}, gradients(model), WithAnother(0, 2))
    assert parts_in_force(model) == 4
    (text,) = warnings_of(caplog)
    assert text.startswith("the memory of process 1 does not suffice for a step; from now on, in all: activations")


@pytest.mark.parametrize("regions", [False, True])
def test_partial_labels_in_parts(regions):
    """Where some images lack annotations of a target: the loss and gradients of the whole batch."""
    plan, found = worker.plan_for(4), []
    labels = {"classes": ["a", "b"], "ids": [[1, 2], [2]] if regions else [[1], [2]], "class_values": [1, 2]}
    plan = plan.model_copy(update={"labels": plan.labels.model_copy(update=labels | {"declared": [0, 1, 2]})})
    assert plan.targets.has_regions == regions
    batch = worker.batch_of(0, plan, ALONE) | {"annotated": np.array([[1, 1], [1, 0], [0, 1], [1, 1]], bool)}
    batch["labels"][0, :8] = 2
    for parts in (0, 2, 4):
        torch.manual_seed(0)
        encoder = worker.TinyViT(widths=worker.NARROW)
        model = worker.DeLightSAM({"new": worker.HeadSpec("MRI", 2, 3)}, encoder=encoder).train()
        begin_with(model, parts)
        with model.scope.step():
            loss = task_loss(model, batch, plan, worker.DEVICE)[0]
            loss.backward()
        found.append((loss.item(), model.heads["new"].queries.grad))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-4)
        torch.testing.assert_close(gradient, found[0][1], atol=1e-4, rtol=1e-2)


@pytest.mark.slow
def test_a_compiled_network_keeps_its_names_and_numbers(monkeypatch):
    monkeypatch.setitem(worker.STEPS, "whole", 2)

    def compiled(model):
        plans = {"new": worker.plan_for(worker.BATCH)}
        assert compile_network(model, lambda: rehearse(model, plans, gradients(model)), backend="aot_eager")

    expected, found = worker.train("whole", ALONE), worker.train("whole", ALONE, compiled)
    assert expected.keys() == found.keys()
    np.testing.assert_allclose(found["losses"], expected["losses"], atol=1e-4)
    assert found["controllers.MRI.statistics.0.batches"] == 2
