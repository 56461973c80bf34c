"""Heads cannot disturb each other: what is locked gives the same bytes, and is not even read."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec

HEADS = {"ct": HeadSpec("CT", 2), "ct_other": HeadSpec("CT", 1), "mri": HeadSpec("MRI", 1)}
BF16 = pytest.param(True, id="bf16")
FP32 = pytest.param(False, id="fp32")


class Touched(TorchDispatchMode):
    """Notes the storage of every tensor that an operation gets, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        leaves = tree_leaves((args, kwargs or {}))
        self.storages |= {t.untyped_storage().data_ptr() for t in leaves if isinstance(t, torch.Tensor)}
        return func(*args, **(kwargs or {}))


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64)


@pytest.fixture
def model():
    """Heads and controllers that matter: gates open, as after training."""
    model = DeLightSAM(HEADS)
    for controller in model.controllers.values():
        for block in controller.blocks:
            torch.nn.init.constant_(block.gate, 0.3)
            torch.nn.init.normal_(block.mlp.fc2.weight, std=0.02)
    return model


def storages(module) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in module.state_dict(keep_vars=True).values()}


def output_bytes(model, images, head, bf16) -> bytes:
    # torch's matmul takes another kernel, with other rounding, for weights that want gradients
    model = copy.deepcopy(model).eval().requires_grad_(False)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outputs = model(images, head)
    return b"".join(value.float().numpy().tobytes() for value in outputs)


def train(model, images, head, bf16, steps=3):
    """As training does: training mode, weight decay, gradients clipped."""
    opened = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(opened, 1e-2, weight_decay=0.05)
    model.train()
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            masks, patches, _ = model(images, head)
        loss = torch.nn.functional.softplus(masks.float()).mean() + patches.float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(opened, 3.0)
        optimizer.step()


@pytest.mark.parametrize("bf16", [FP32, BF16])
@pytest.mark.parametrize("head", list(HEADS))
def test_training_a_head_on_a_frozen_body_leaves_the_others_bytes(model, images, head, bf16):
    before = {name: output_bytes(model, images, name, bf16) for name in HEADS}
    model.freeze_all_but([head])
    train(model, images, head, bf16)
    after = {name: output_bytes(model, images, name, bf16) for name in HEADS}
    assert {name for name in HEADS if after[name] != before[name]} == {head}


@pytest.mark.parametrize("bf16", [FP32, BF16])
@pytest.mark.parametrize("spec", [HeadSpec("PET", 3), HeadSpec("CT", 1), HeadSpec("OCT", 1, in_channels=2)])
def test_adding_and_training_a_head_leaves_the_others_bytes(model, images, spec, bf16):
    before = {name: output_bytes(model, images, name, bf16) for name in HEADS}
    model.add_head("new", spec)
    model.freeze_all_but(["new"])
    own = torch.randn(2, spec.in_channels, 64, 64)
    fresh = output_bytes(model, own, "new", bf16)
    train(model, own, "new", bf16)
    assert {name: output_bytes(model, images, name, bf16) for name in HEADS} == before
    assert output_bytes(model, own, "new", bf16) != fresh


def test_only_a_controller_of_ones_own_is_opened(model):
    model.add_head("pet", HeadSpec("PET", 1))
    model.freeze_all_but(["pet", "ct_other"])
    opened = {".".join(name.split(".")[:2]) for name, p in model.named_parameters() if p.requires_grad}
    assert opened == {"heads.pet", "heads.ct_other", "controllers.PET"}


def test_a_fresh_modality_sees_the_shared_encoders_features(model, images):
    """Bit for bit those of the encoder without any controller."""
    model.add_head("pet", HeadSpec("PET", 1))
    fresh = model.controllers["PET"]
    for norm in (m for m in model.encoder.modules() if hasattr(m, "running_mean")):
        norm.running_mean.normal_()
        fresh.statistics[norm.index].mean.copy_(norm.running_mean)

    class Absent(torch.nn.Module):
        def attend(self, output, scaled_query, scores):
            return output

        def mlp(self, x):
            return 0.0

    class Shared:
        blocks, statistics = [Absent() for _ in fresh.blocks], fresh.statistics

    model.eval()
    with torch.inference_mode():
        alone = model.encoder(images, Shared)
        for own, expected in zip(model.encode(images, "pet"), alone, strict=True):
            assert own.numpy().tobytes() == expected.numpy().tobytes()


def test_what_is_locked_is_not_read(model, images):
    """Neither forward nor backward touches another head or controller; the open ones are."""
    model.train()
    with Touched() as touched:
        masks, patches, _ = model(images, "mri")
        (masks.square().mean() + patches.square().mean()).backward()
    for name in ("ct", "ct_other"):
        assert not touched.storages & storages(model.heads[name])
    assert not touched.storages & storages(model.controllers["CT"])
    assert storages(model.heads["mri"]) < touched.storages
    used = {t.data_ptr() for t in model.controllers["MRI"].parameters()}
    assert used < touched.storages


def test_more_heads_cost_no_more_operations(images):
    def operations(heads) -> int:
        model, count = DeLightSAM(heads).eval(), 0

        class Count(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                nonlocal count
                count += 1
                return func(*args, **(kwargs or {}))

        with Count(), torch.no_grad():
            model(images, "mri")
        return count

    assert operations(HEADS) == operations({"mri": HEADS["mri"]}) > 300
