"""The form that predicts: the same logits, from copies of one modality's part of the model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model import from_release
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.inference_form import _SIZES, prepare_for_inference
from delightsam_pipeline.model.layers import Statistics

SPECS = {"ct": HeadSpec("CT", 2), "five": HeadSpec("CT", 1, 5), "mr": HeadSpec("MRI", 1)}


def model_as_trained(gate=0.37, **form):
    """Weights through which the image is seen, and nothing left where a part that is missing would not be missed."""
    torch.manual_seed(0)
    model = DeLightSAM(SPECS, **form).eval()
    for name, value in model.named_parameters():
        if name.endswith("gate"):
            nn.init.constant_(value, gate)
        elif name.endswith(("token", "attention_biases")):
            nn.init.normal_(value)
        elif name.endswith("bias"):
            nn.init.normal_(value, std=0.1)
        elif value.dim() == 1:
            nn.init.normal_(value, 1, 0.1)
        else:
            nn.init.normal_(value, std=value[0].numel() ** -0.5)
    for own in (m for m in model.modules() if isinstance(m, Statistics)):
        own.mean.normal_(0, 0.2)
        own.var.uniform_(0.5, 1.5)
    return model


@torch.inference_mode()
def differences(model, form, images, head, bf16=False):
    """Largest differences of mask logits, patch logits and embedding, against the largest values."""
    expected = model(images, head)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found = form(images, head)
    assert [value.shape for value in found] == [value.shape for value in expected]
    return [float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)]


@pytest.mark.parametrize("gate", [0, 1, 0.37])
@pytest.mark.parametrize("size", [(1, 160, 224), (3, 64, 96), (8, 32, 32)])
def test_same_logits(gate, size):
    model = model_as_trained(gate)
    form = prepare_for_inference(model, "CT")
    images = torch.randn(size[0], 3, *size[1:])
    assert max(differences(model, form, images, "ct")) < 1e-5
    assert max(differences(model, prepare_for_inference(model, "MRI"), images, "mr")) < 1e-5


@pytest.mark.parametrize("form", [{"detail": False}, {"fit_windows": False}])
def test_same_logits_of_the_other_forms_of_the_network(form):
    model = model_as_trained(**form)
    assert max(differences(model, prepare_for_inference(model, "CT"), torch.randn(1, 3, 160, 224), "ct")) < 1e-5


def test_strips_of_large_images():
    """Images too large to be worked on at once, of which the last strip is shorter."""
    model = model_as_trained()
    images = torch.randn(2, 3, 320, 736)
    assert max(differences(model, prepare_for_inference(model, "CT"), images, "ct")) < 1e-5


def test_a_head_with_its_own_projection_and_images_not_channels_last():
    model = model_as_trained()
    form = prepare_for_inference(model, "CT")
    images = torch.randn(2, 5, 64, 96)
    assert max(differences(model, form, images, "five")) < 1e-5
    assert max(differences(model, form, images.contiguous(memory_format=torch.channels_last), "five")) < 1e-5


def test_joint_queries_of_a_release(release_state, release_images):
    model = from_release(release_state).eval()
    form = prepare_for_inference(model, "release")
    images = release_images[:, :, :224, :288]
    masks = [form(images, head)[0] for head in (0, 3, "fundus")]
    assert torch.equal(masks[1], masks[2]) and not torch.allclose(masks[0], masks[1], rtol=0.1)
    for head in (0, "fundus"):
        assert max(differences(model, form, images, head)) < 1e-5


def test_close_logits_under_autocast():
    model = model_as_trained()
    form = prepare_for_inference(model, "CT")
    images = torch.randn(2, 3, 64, 96)
    masks, patches, embedding = differences(model, form, images, "ct", bf16=True)
    assert 1e-4 < embedding < 0.02 and patches < 0.05 and masks < 0.2
    assert max(differences(model, form, images, "ct")) < 1e-5


def test_the_model_is_left_and_the_form_is_its_own():
    model = model_as_trained()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    form = prepare_for_inference(model, "CT")
    images = torch.randn(1, 3, 64, 64)
    first = form(images, "ct")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    for value in model.state_dict().values():
        value.fill_(0.5)
    assert all(torch.equal(a, b) for a, b in zip(first, form(images, "ct"), strict=True))
    assert not any(value.requires_grad for value in (*form.parameters(), *first))


def test_other_modalities_stay_out():
    model = model_as_trained()
    form = prepare_for_inference(model, "CT")
    with pytest.raises(UserError, match="has no head 'mr'; found ct, five"):
        form(torch.randn(1, 3, 32, 32), "mr")
    with pytest.raises(UserError, match="no head of modality 'PET'; found CT, MRI"):
        prepare_for_inference(model, "PET")
    held = sum(value.numel() for value in (*form.parameters(), *form.buffers()))
    per_controller = sum(value.numel() for value in model.controller("mr").parameters())
    whole = sum(value.numel() for value in model.parameters())
    assert held < whole - 0.9 * per_controller


def test_places_are_kept_for_few_sizes():
    model = model_as_trained()
    form = prepare_for_inference(model, "CT")
    for _ in range(2):
        for side in range(1, _SIZES + 3):
            images = torch.randn(1, 3, 32, 32 * side)
            assert max(differences(model, form, images, "ct")) < 1e-5
    assert len(form._sizes) == _SIZES
