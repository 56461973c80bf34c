"""The authors' release, loaded, computes the authors' numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model import from_release
from delightsam_pipeline.model.controller import Controller
from delightsam_pipeline.model.delightsam import HeadSpec
from delightsam_pipeline.model.tiny_vit import TinyViT

UNUSED_CLASSIFIER, UNUSED_PROMPTS, GATES = 321_640, 6_220, 10


def test_a_head_goes_by_its_id_and_by_its_name(release_state):
    model = from_release(release_state).eval()
    assert sum(p.numel() for p in model.parameters()) == 12_789_587 - UNUSED_CLASSIFIER - UNUSED_PROMPTS + GATES
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        by_id, by_name = model(images, 2)[0], model(images, "ultrasound")[0]
        assert by_id.shape == (1, 1, 16, 16) and torch.equal(by_id, by_name)
        assert not torch.equal(by_id, model(images, 3)[0])
    for unknown in (6, "release", "CT"):
        with pytest.raises(UserError, match=f"no head '{unknown}'; found dermoscopy, X-ray"):
            model(images, unknown)


def test_it_takes_no_more_heads(release_state):
    with pytest.raises(UserError, match=r"'pet' cannot be added.*keeps the heads it has"):
        from_release(release_state).add_head("pet", HeadSpec("PET", 1))


def parameters(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def computed(release_state, release_images):
    model = from_release(release_state).eval()
    with torch.inference_mode():
        features = model.encode(release_images, 0)
        masks, patches, embedding = zip(*(model.decode(features, k) for k in range(6)), strict=True)
        full = [F.interpolate(mask, scale_factor=4, mode="bilinear", align_corners=False) for mask in masks]
    patches, embedding = patches[0], embedding[0]
    sampled = {f"masks_{k}": full[k][:, :, 4::16, 4::16] for k in range(6)}
    return sampled | {"patch_map": patches, "embedding": embedding[:, :, ::8, ::8]}


@pytest.mark.parametrize("name", [*(f"masks_{k}" for k in range(6)), "patch_map", "embedding"])
def test_release_numbers(computed, release_outputs, name):
    expected = release_outputs[name]
    assert computed[name].shape == expected.shape
    assert (computed[name] - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("SemiTViT.patch_embed.seq.0.c.weight", "encoder.patch_embed.seq.0.c.weight"),
        ("SemiTViT.layers.2.blocks.5.attn.deep_QKV_embeddings_med", "blocks.5.attn.deep_QKV_embeddings_med"),
        ("SemiTViT.layers.1.blocks.0.med_dah.fc2.bias", "blocks.0.med_dah.fc2.bias"),
        ("mask_query.weight", "mask_query.weight"),
        ("mask_decoder.output_hypernetworks_mlps.0.layers.1.weight", "mlps.0.layers.1.weight"),
        ("mask_decoder.transformer.layers.1.norm4.bias", "transformer.layers.1.norm4.bias"),
    ],
)
def test_missing_tensor_is_named(release_state, name, named):
    state = {key: value for key, value in release_state.items() if key != name}
    with pytest.raises(UserError, match=named.replace(".", r"\.")):
        from_release(state)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("SemiTViT.neck.0.weight", r"encoder\.neck\.0\.weight \[256, 320, 1, 1\].*\[3, 2\]"),
        ("mask_query.weight", r"queries \[7, 256\].*\[3, 2\]"),
    ],
)
def test_wrong_shape_is_named(release_state, name, named):
    with pytest.raises(UserError, match=named):
        from_release(release_state | {name: torch.zeros(3, 2)})


def test_parameter_counts_are_the_papers():
    encoder = TinyViT()
    assert parameters(encoder) == 6_065_532 - UNUSED_CLASSIFIER
    assert parameters(encoder.neck) == 672_768
    assert parameters(Controller(encoder.controlled_blocks(), [])) == 3_144_202 + GATES
