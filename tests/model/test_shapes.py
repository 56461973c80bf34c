"""Any multiple of 32, whole batches at once, and the parts that must not change pretrained weights' results."""

from __future__ import annotations

import pytest
import torch

from delightsam_pipeline.model.controller import BlockController
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.tiny_vit import HEAD_DIM, WindowAttention, window_side

SPECS = {"ct": HeadSpec("CT", 2)}


@pytest.fixture
def model():
    """With biases that matter, so that windows do too."""
    model = DeLightSAM(SPECS).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("attention_biases"):
            torch.nn.init.normal_(parameter)
    return model


@torch.no_grad()
def run(model, images):
    return model(images, "ct")


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (160, 224)])
def test_shapes(model, height, width):
    masks, patches, embedding = run(model, torch.randn(2, 3, height, width))
    assert masks.shape == (2, 2, height // 4, width // 4)
    assert patches.shape == (2, 1, height // 32, width // 32)
    assert embedding.shape == (2, 256, height // 16, width // 16)
    assert all(torch.isfinite(value).all() for value in (masks, patches, embedding))


def test_a_batch_is_its_images(model):
    images = torch.randn(3, 3, 64, 96)
    together = run(model, images)
    alone = [run(model, image[None]) for image in images]
    for whole, *singles in zip(together, *alone, strict=True):
        singles = torch.cat(singles)
        assert (whole - singles).abs().max() < 1e-5 * whole.abs().max()
        assert (singles[0] - singles[1]).abs().max() > 1e-3 * whole.abs().max()


def test_a_new_contour_path_changes_nothing(model):
    plain = DeLightSAM(SPECS, detail=False).eval()
    plain.load_state_dict({name: model.state_dict()[name] for name in plain.state_dict()})
    images = torch.randn(1, 3, 64, 64)
    masks = run(model, images)[0]
    assert masks.std() > 0 and torch.equal(masks, run(plain, images)[0])
    torch.nn.init.ones_(model.decoder.lateral4.bias)
    assert not torch.equal(run(model, images)[0], masks)


@pytest.mark.parametrize(("side", "agree"), [(224, True), (160, False)])
def test_windows_are_the_authors_where_they_divide_the_sides(model, side, agree):
    authors = DeLightSAM(SPECS, fit_windows=False).eval()
    authors.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, side, side)
    assert torch.equal(run(model, images)[2], run(authors, images)[2]) == agree


@pytest.mark.parametrize("table", [7, 14])
def test_fitted_windows_stay_within_the_table_and_need_no_more_of_them(table):
    for side in range(1, 200):
        window = window_side(side, table, fit=True)
        assert 1 <= window <= table == window_side(side, table, fit=False)
        count = -(-side // window)
        assert count == -(-side // table) and count * window - side < count


@torch.no_grad()
def test_attention_by_hand_in_a_window_smaller_than_the_table():
    """Token by token: the bias goes by (|dy|, |dx|), the controller's token is one more key and value (gate 1)."""
    attention, control = WindowAttention(64, 7), BlockController(64, 2)
    torch.nn.init.normal_(attention.attention_biases)
    for parameter, value in ((control.gate, 1.0), (control.token_bias, 0.3)):
        torch.nn.init.constant_(parameter, value)
    torch.nn.init.normal_(control.token)
    height, width = 2, 3
    x = torch.randn(1, height * width, 64)
    qkv = attention.qkv(attention.norm(x))[0].view(-1, 2, 3, HEAD_DIM)
    bias = attention.attention_biases.view(2, 7, 7)
    expected = torch.zeros(height * width, 2, HEAD_DIM)
    for head in range(2):
        for i in range(height * width):
            q = qkv[i, head, 0] * HEAD_DIM**-0.5
            keys = [*qkv[:, head, 1], control.token[head, 0]]
            values = torch.stack([*qkv[:, head, 2], control.token[head, 0]])
            extra = [bias[head, abs(i // width - j // width), abs(i % width - j % width)] for j in range(len(qkv))]
            scores = torch.stack([q @ k + b for k, b in zip(keys, [*extra, control.token_bias[0]], strict=True)])
            expected[i, head] = scores.softmax(0) @ values
    result = attention(x, (height, width), control)[0]
    assert torch.allclose(result, attention.proj(expected.flatten(1)), atol=1e-5)
