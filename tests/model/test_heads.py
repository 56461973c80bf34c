"""Modalities and heads: a new one changes nothing that is there, and learns alone."""

from __future__ import annotations

import pytest
import torch

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.layers import ModalityBatchNorm, Statistics

HEADS = {"ct": HeadSpec("CT", 2), "ct_other": HeadSpec("CT", 1), "mri": HeadSpec("MRI", 1)}


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64)


@pytest.fixture
def model():
    return DeLightSAM(HEADS)


def loss_of(model, images, head):
    """Something like a mask loss: the upper half is foreground."""
    masks, patches, _ = model(images, head)
    target = torch.zeros_like(masks)
    target[:, :, : masks.shape[2] // 2] = 1
    on_mask = torch.nn.functional.binary_cross_entropy_with_logits(masks, target)
    return on_mask + 0.5 * torch.nn.functional.softplus(patches).mean()


def train(model, images, head, steps=2, rate=1e-2):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, images, head).backward()
        optimizer.step()


def outputs(model, images, head):
    training = model.training
    with torch.inference_mode():
        result = [value.clone() for value in model.eval()(images, head)]
    model.train(training)
    return result


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_new_controller_is_an_exact_identity(model, images):
    model.eval()
    first, second = model.controllers["CT"], model.controllers["MRI"]
    assert not torch.equal(first.blocks[0].token, second.blocks[0].token)  # what they add would differ
    _, patches, embedding = outputs(model, images, "ct")
    _, other_patches, other_embedding = outputs(model, images, "mri")
    assert torch.equal(embedding, other_embedding) and torch.equal(patches, other_patches)
    with torch.no_grad():
        second.blocks[0].gate.fill_(0.5)
    assert not torch.equal(outputs(model, images, "mri")[2], embedding)


def test_every_parameter_of_a_new_controller_learns(images):
    model = DeLightSAM({"ct": HeadSpec("CT", 1)}).train()
    before = copied(model.controllers["CT"])
    train(model, images, "ct", steps=3, rate=1e-3)
    for name, parameter in model.controllers["CT"].named_parameters():
        moved = (parameter.detach() != before[name]).float().mean()
        assert moved > 0.9, f"{name}: only {moved:.0%} has moved"


def test_the_opened_head_alone_gets_gradients(model, images):
    loss_of(model.train(), images, "mri").backward()
    for module in (model.heads["ct"], model.heads["ct_other"], model.controllers["CT"]):
        assert all(parameter.grad is None for parameter in module.parameters())
    for module in (model.encoder, model.decoder, model.prompt, model.heads["mri"], model.controllers["MRI"]):
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_adding_a_head_leaves_what_is_there_bit_identical(model, images):
    state = copied(model)
    before = {name: outputs(model, images, name) for name in HEADS}
    model.add_head("pet", HeadSpec("PET", 3, in_channels=4))
    model.add_head("mri_too", HeadSpec("MRI", 1))
    now = model.state_dict()
    assert all(torch.equal(now[name], value) for name, value in state.items())
    assert all(same(outputs(model, images, name), before[name]) for name in HEADS)
    assert list(model.controllers) == ["CT", "MRI", "PET"]
    assert outputs(model, torch.randn(1, 4, 32, 32), "pet")[0].shape == (1, 3, 8, 8)


def test_a_head_is_not_added_twice(model):
    with pytest.raises(UserError, match="already has a head 'ct'"):
        model.add_head("ct", HeadSpec("PET", 1))


def test_a_new_modality_starts_from_the_statistics_of_those_there_are(model):
    """Of an equal mixture of them: here half of all values come from CT, half from MRI."""
    norms = [m for m in model.modules() if isinstance(m, ModalityBatchNorm)]
    assert len(norms) == len(model.controllers["CT"].statistics) == 27
    of_ct, of_mri = 3 + 2 * torch.randn(20_000), -1 + 0.5 * torch.randn(20_000)
    both = torch.cat([of_ct, of_mri])
    for name, values in (("CT", of_ct), ("MRI", of_mri)):
        model.controllers[name].statistics[4].mean.fill_(values.mean())
        model.controllers[name].statistics[4].var.fill_(values.var(correction=0))
    model.add_head("pet", HeadSpec("PET", 1))
    start = model.controllers["PET"].statistics[4]
    assert torch.allclose(start.mean, both.mean(), atol=1e-4)
    assert torch.allclose(start.var, both.var(correction=0), rtol=1e-4)
    start.mean.add_(1)
    assert torch.allclose(model.controllers["CT"].statistics[4].mean, of_ct.mean())  # a copy, not the same tensor


def test_the_first_modality_starts_from_the_shared_statistics():
    model = DeLightSAM({})
    norm = next(m for m in model.modules() if isinstance(m, ModalityBatchNorm))
    norm.running_mean.normal_()
    model.add_head("pet", HeadSpec("PET", 1))
    start = model.controllers["PET"].statistics[norm.index]
    assert torch.equal(start.mean, norm.running_mean) and start.mean.data_ptr() != norm.running_mean.data_ptr()


def test_training_goes_on_after_prediction_at_another_size(model):
    outputs(model, torch.randn(1, 3, 96, 160), "ct")
    loss_of(model, torch.randn(1, 3, 96, 160), "ct").backward()


def test_statistics_move_for_the_modality_that_ran(model, images):
    model.train()
    before = copied(model)
    with torch.no_grad():
        model(images, "mri")
    for name, value in model.state_dict().items():
        belongs = name.startswith("controllers.MRI.statistics.")
        assert torch.equal(value, before[name]) != belongs, name


def test_statistics_are_a_plain_mean_at_first_and_follow_later():
    statistics = Statistics(torch.tensor([100.0]), torch.tensor([50.0]))
    for number in range(1, 11):
        statistics.update(torch.tensor([float(number)]), torch.tensor([2.0 * number]))
    assert statistics.mean.item() == pytest.approx(5.5) and statistics.var.item() == pytest.approx(11)
    statistics.update(torch.tensor([15.5]), torch.tensor([21.0]))
    assert statistics.mean.item() == pytest.approx(6.5) and statistics.var.item() == pytest.approx(12)


def test_training_uses_the_batchs_own_statistics_and_evaluation_the_modalitys():
    norm, statistics = ModalityBatchNorm(2), [Statistics(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 9.0]))]
    norm.index = 0
    x = 5 + 3 * torch.randn(4, 2, 8, 8)
    expected = (x - torch.tensor([1.0, 2.0]).view(2, 1, 1)) / torch.tensor([2.0, 3.0]).view(2, 1, 1)
    assert torch.allclose(norm.eval()(x, statistics), expected, atol=1e-4)
    y = norm.train()(x, statistics)
    assert y.mean().abs() < 1e-5 and torch.allclose(y.std(dim=(0, 2, 3), correction=0), torch.ones(2), atol=1e-4)
    assert torch.allclose(statistics[0].mean, x.mean(dim=(0, 2, 3)), atol=1e-4)
    assert torch.allclose(statistics[0].var, x.var(dim=(0, 2, 3)), rtol=1e-4)  # unbiased
    assert not norm.running_mean.any()


def test_training_and_evaluation_agree_for_modalities_of_different_ranges():
    model = DeLightSAM({"ct": HeadSpec("CT", 1), "mri": HeadSpec("MRI", 1)}).train()
    for statistics in (m for m in model.modules() if isinstance(m, Statistics)):
        statistics.momentum = 0.5  # few steps suffice
    data = {"ct": torch.randn(4, 3, 64, 64), "mri": 40 + 15 * torch.randn(4, 3, 64, 64)}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    for step in range(14):
        for head, images in data.items():
            if step < 6:
                optimizer.zero_grad(set_to_none=True)
                loss_of(model, images, head).backward()
                optimizer.step()
            else:  # as at the end of the schedule, where the weights stand still
                with torch.no_grad():
                    model(images, head)
    with torch.no_grad():
        trained = {head: loss_of(model.train(), images, head).item() for head, images in data.items()}
        evaluated = {head: loss_of(model.eval(), images, head).item() for head, images in data.items()}
        assert evaluated == pytest.approx(trained, rel=0.08)
        model.controllers["MRI"].statistics = model.controllers["CT"].statistics
        assert loss_of(model, data["mri"], "mri").item() > 1.3 * trained["mri"]  # another modality's do not fit
