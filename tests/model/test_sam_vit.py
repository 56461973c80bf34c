"""Segment Anything's image encoder gives its own code's numbers, at its own size and others, and can be adapted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model import sam_vit
from delightsam_pipeline.model.sam_adaptation import Adaptation
from delightsam_pipeline.model.sam_vit import VIT_B, VIT_H, VIT_L, SamShape, SamViT, sam_vit_from, shape_of

REFERENCE = Path(__file__).parent / "reference"
SMALL = SamShape(96, 4, 4, (1, 3))
TINY = SamShape(16, 3, 2, (1,), window=4)


@pytest.fixture(scope="module")
def small_state(make_tensor):
    """Weights of SMALL, with tables for 512 x 512."""
    layout = json.loads((REFERENCE / "sam_vit_layout.json").read_text())
    return {name: torch.from_numpy(make_tensor(name, tuple(shape))) for name, shape in layout.items()}


@pytest.fixture(scope="module")
def tiny_state(make_tensor):
    """Weights of TINY, with tables for 96 x 96: 6 x 6 tokens, windows of 4."""
    own = SamViT(TINY, 96).state_dict()
    return {name: torch.from_numpy(make_tensor(name, tuple(value.shape))) for name, value in own.items()}


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 96)


@torch.no_grad()
def run(vit, images, adaptation=None):
    return vit(images, adaptation)


def close(first, second, tolerance=1e-5):
    return first.shape == second.shape and (first - second).abs().max() < tolerance * second.abs().max()


def trained(shape):
    """An adaptation of which every parameter counts."""
    adaptation = Adaptation(shape)
    for parameter in adaptation.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return adaptation


def test_the_numbers_of_segment_anything(small_state, release_images):
    with np.load(REFERENCE / "sam_vit_outputs.npz", allow_pickle=False) as file:
        expected = torch.from_numpy(file["embedding"])
    embedding = run(sam_vit_from(small_state), release_images[:, :, :512, :512])
    assert close(embedding[:, :, ::4, ::4], expected, 1e-4)


@pytest.mark.parametrize(
    ("shape", "count"), [(VIT_B, 89_670_912), (VIT_L, 308_278_272), (VIT_H, 637_026_048)], ids="BLH"
)
def test_the_three_sizes_are_known_by_their_tensors(shape, count):
    with torch.device("meta"):
        vit = SamViT(shape)
    assert sum(p.numel() for p in vit.parameters()) == count
    assert shape_of(vit.state_dict()) == shape
    whole = {f"image_encoder.{name}": value for name, value in vit.state_dict().items()}
    assert shape_of(whole | {"mask_decoder.iou_token.weight": torch.zeros(1, 256)}) == shape


def resized(table, size):
    """[L, ...] -> [size, ...] linearly, with half a row before the first centre and rows repeated at the ends."""
    centres = ((torch.arange(size, dtype=torch.float64) + 0.5) * len(table) / size - 0.5).clamp(0, len(table) - 1)
    below = centres.floor().long()
    part = (centres - below).view(-1, *[1] * (table.ndim - 1))
    return table[below] * (1 - part) + table[(below + 1).clamp(max=len(table) - 1)] * part


def cubic(table, size):
    """The same with Keys' cubic of parameter -0.75."""
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * len(table) / size - 0.5
    result = 0
    for step in range(-1, 3):
        place = centres.floor() + step
        x = (centres - place).abs()
        inner, outer = 1.25 * x**3 - 2.25 * x**2 + 1, -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
        weight = torch.where(x <= 1, inner, outer).view(-1, *[1] * (table.ndim - 1))
        result = result + weight * table[place.long().clamp(0, len(table) - 1)]
    return result


def plain_attention(x, s, name, heads, own):
    """One map [h, w, C], head by head, pair of places by pair of places."""
    h, w, c = x.shape
    tokens = x.reshape(h * w, c)
    down, across = (resized(s[f"{name}rel_pos_{axis}"], 2 * side - 1) for axis, side in (("h", h), ("w", w)))
    y, x = torch.arange(h * w) // w, torch.arange(h * w) % w
    offsets = down[y[:, None] - y + h - 1] + across[x[:, None] - x + w - 1]
    qkv = tokens @ s[f"{name}qkv.weight"].T + s[f"{name}qkv.bias"]
    outputs = []
    for q, k, v, added in zip(*(part.chunk(heads, 1) for part in qkv.chunk(3, 1)), own.tokens, strict=True):
        logits = q @ k.T / math.sqrt(c // heads) + (q[:, None] * offsets).sum(2)
        joint = torch.cat([logits, q @ added.T / math.sqrt(c // heads)], 1).softmax(1) @ torch.cat([v, added])
        outputs.append((1 - own.gate) * (logits.softmax(1) @ v) + own.gate * joint)
    return (torch.cat(outputs, 1) @ s[f"{name}proj.weight"].T + s[f"{name}proj.bias"]).view(h, w, c)


@torch.no_grad()
def plain(state, images, adaptation):
    """What TINY computes, in float64, one image, window and head at a time."""
    s = {name: value.double() for name, value in state.items()}
    norm = lambda x, name: F.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"], 1e-6)  # noqa: E731
    embeddings = []
    for image in images.double():
        x = F.conv2d(image[None], s["patch_embed.proj.weight"], s["patch_embed.proj.bias"], stride=16)[0]
        x = x.permute(1, 2, 0)
        h, w, c = x.shape
        x = x + cubic(cubic(s["pos_embed"][0], h).transpose(0, 1), w).transpose(0, 1)
        for number, own in enumerate(adaptation.double().blocks):
            name = f"blocks.{number}."
            step = max(h, w) if number in TINY.global_blocks else TINY.window
            rows, columns = (h, w) if step > TINY.window else (math.ceil(h / step) * step, math.ceil(w / step) * step)
            padded = torch.zeros(rows, columns, c, dtype=x.dtype)
            padded[:h, :w] = norm(x, f"{name}norm1")
            for top in range(0, rows, step):
                for left in range(0, columns, step):
                    window = padded[top : top + step, left : left + step]
                    window[:] = plain_attention(window.clone(), s, f"{name}attn.", TINY.heads, own)
            x = x + padded[:h, :w]
            y = norm(x, f"{name}norm2")
            inner = F.gelu(y @ s[f"{name}mlp.lin1.weight"].T + s[f"{name}mlp.lin1.bias"])
            x = x + inner @ s[f"{name}mlp.lin2.weight"].T + s[f"{name}mlp.lin2.bias"] + own.adapter(y)
        x = norm((x @ s["neck.0.weight"][:, :, 0, 0].T), "neck.1").permute(2, 0, 1)
        x = F.conv2d(x[None], s["neck.2.weight"], padding=1)[0]
        embeddings.append(norm(x.permute(1, 2, 0), "neck.3").permute(2, 0, 1))
    adaptation.float()
    return torch.stack(embeddings).float()


@pytest.mark.parametrize("size", [(96, 96), (160, 96), (96, 160), (192, 128), (352, 224)])
@pytest.mark.parametrize("make", [Adaptation, trained], ids=["new", "trained"])
def test_any_size_agrees_with_the_plain_computation(tiny_state, size, make):
    images, adaptation = torch.randn(2, 3, *size), make(TINY)
    embedding = run(sam_vit_from(tiny_state), images, adaptation)
    assert embedding.shape == (2, 256, size[0] // 16, size[1] // 16)
    assert close(embedding, plain(tiny_state, images, adaptation), 1e-4)


@pytest.mark.parametrize("size", [(96, 96), (32, 32), (64, 224)])
def test_constant_tables_stay_constant(tiny_state, size):
    """A constant position embedding is a bias, and a logit's constant makes no difference."""
    state, same = dict(tiny_state), dict(tiny_state)
    for name, value in tiny_state.items():
        if name == "pos_embed" or "rel_pos" in name:
            state[name] = value.flatten(0, -2)[0].expand(value.shape)
            same[name] = torch.zeros_like(value)
    same["patch_embed.proj.bias"] = same["patch_embed.proj.bias"] + state["pos_embed"][0, 0, 0]
    images = torch.randn(1, 3, *size)
    assert close(run(sam_vit_from(state), images), run(sam_vit_from(same), images))
    assert not close(run(sam_vit_from(tiny_state), images), run(sam_vit_from(same), images), 0.05)


def test_a_batch_is_its_images(small_state, images):
    vit, adaptation = sam_vit_from(small_state), trained(SMALL)
    together = run(vit, images, adaptation)
    assert close(together, torch.cat([run(vit, image[None], adaptation) for image in images]))
    assert not close(together[:1], together[1:], 0.05)


def test_queries_in_portions_give_the_same_embedding_and_gradients(tiny_state, images, monkeypatch):
    vit, adaptation = sam_vit_from(tiny_state), trained(TINY)
    results = []
    for scores in (2**30, 1):
        monkeypatch.setattr(sam_vit, "_SCORES", scores)
        embedding = vit(images, adaptation)
        gradients = torch.autograd.grad(embedding.square().mean(), list(adaptation.parameters()))
        results.append((embedding.detach(), *gradients))
    for whole, portions in zip(*results, strict=True):
        assert close(portions, whole, 1e-4)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_new_adaptation_is_an_exact_identity(small_state, images, bf16):
    vit, adaptation = sam_vit_from(small_state), Adaptation(SMALL)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        embedding = run(vit, images)
        assert torch.equal(run(vit, images, adaptation), embedding)
        with torch.no_grad():
            adaptation.blocks[0].gate.fill_(0.5)
        assert not torch.equal(run(vit, images, adaptation), embedding)


def test_the_adaptation_learns_whole_and_the_vit_not_at_all(small_state, images):
    vit, adaptation = sam_vit_from(small_state), Adaptation(SMALL)
    target = run(vit, images.flip(0))
    before = {name: value.clone() for name, value in adaptation.state_dict().items()}
    optimizer = torch.optim.AdamW(adaptation.parameters(), 1e-3, weight_decay=0)
    losses = []
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        losses.append(F.mse_loss(vit(images, adaptation), target))
        losses[-1].backward()
        optimizer.step()
    assert losses[2] < losses[0]
    for name, parameter in adaptation.named_parameters():
        moved = (parameter.detach() != before[name]).float().mean()
        assert moved > 0.9, f"{name}: only {moved:.0%} has moved"
    assert all((block.tokens[:, 0] != block.tokens[:, 1]).any() for block in adaptation.blocks)
    assert all(p.grad is None and not p.requires_grad for p in vit.parameters())
    assert all(torch.equal(value, small_state[name]) for name, value in vit.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos_embed": None}, "no image encoder of Segment Anything; expected a tensor pos_embed; found none"),
        ({"pos_embed": torch.zeros(37, 16)}, r"pos_embed of 4 dimensions, none of them 0; found \[37, 16\]"),
        ({"pos_embed": torch.zeros(1, 6, 5, 16)}, r"pos_embed \[1, 6, 6, 16\]; found \[1, 6, 5, 16\]"),
        ({"blocks.0.attn.rel_pos_h": torch.zeros(7, 5)}, "heads whose dimension divides the width 16; found 5"),
        ({"blocks.2.attn.rel_pos_h": torch.zeros(9, 8)}, r"rel_pos_h \[7, 8\]; found \[9, 8\]"),
        ({"blocks.1.attn.rel_pos_w": None}, "expected a tensor blocks.1.attn.rel_pos_w; found none"),
        ({"blocks.1.mlp.lin1.bias": torch.zeros(65)}, r"blocks.1.mlp.lin1.bias \[64\]; found \[65\]"),
        ({"neck.4.weight": torch.zeros(1)}, "expected no more tensors; found neck.4.weight"),
    ],
)
def test_the_first_thing_that_does_not_fit_is_named(tiny_state, tmp_path, change, message):
    state = {name: value for name, value in (tiny_state | change).items() if value is not None}
    for load in (shape_of, sam_vit_from):
        with pytest.raises(UserError, match=rf"sam\.pth: .*{message}"):
            load({f"image_encoder.{name}": value for name, value in state.items()}, tmp_path / "sam.pth")
