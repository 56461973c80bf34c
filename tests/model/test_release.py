"""The authors' release, loaded, computes the authors' numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.checkpoints import from_release
from delightsam_pipeline.model.controller import Controller
from delightsam_pipeline.model.tiny_vit import TinyViT


def parameters(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def computed(release_state, release_images):
    model = from_release(release_state).eval()
    with torch.inference_mode():
        masks, patches, embedding = model(release_images, "release")
        full = F.interpolate(masks[:, :6], scale_factor=4, mode="bilinear", align_corners=False)
    sampled = {f"masks_{k}": full[:, k : k + 1, 4::16, 4::16] for k in range(6)}
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
    unused_classifier, gates = 321_640, 10
    assert parameters(encoder) == 6_065_532 - unused_classifier
    assert parameters(encoder.neck) == 672_768
    assert parameters(Controller(encoder.controlled_blocks(), [])) == 3_144_202 + gates
