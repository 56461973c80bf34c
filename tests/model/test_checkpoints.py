"""Weights from files: read without running anything, refused when they do not fit, taken over where they do."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.checkpoints import load_tensors
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.layers import ModalityBatchNorm
from delightsam_pipeline.model.pretrained import load_pretrained

HEADS = {"ct": HeadSpec("CT", 2), "mri": HeadSpec("MRI", 1)}


class CreatesFile:
    """What an attacker would pickle: something that runs when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def tensors():
    return {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.int64)}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"state_dict": t}, lambda t: {"model": t, "epoch": 3}])
def test_pth_is_read(tmp_path, tensors, wrap):
    torch.save(wrap(tensors), tmp_path / "w.pth")
    assert same(load_tensors(tmp_path / "w.pth"), tensors)


def test_safetensors_are_read(tmp_path, tensors):
    save_file(tensors, tmp_path / "w.safetensors")
    assert same(load_tensors(tmp_path / "w.safetensors"), tensors)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_missing_file(tmp_path, ending):
    with pytest.raises(UserError, match=f"weights{ending}: no such"):
        load_tensors(tmp_path / f"weights{ending}")


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 10, -30])
def test_truncated_file(tmp_path, tensors, ending, kept):
    file = tmp_path / f"w{ending}"
    torch.save(tensors, file) if ending == ".pth" else save_file(tensors, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"w\.\w+: weights cannot be read"):
        load_tensors(file)


@pytest.mark.parametrize("save", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value, protocol=2))])
def test_a_pickle_is_not_run(tmp_path, save):
    victim = tmp_path / "created"
    save({"a": torch.ones(1), "b": CreatesFile(victim)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="cannot be read safely"):
        load_tensors(tmp_path / "w.pth")
    assert not victim.exists()
    torch.load(tmp_path / "w.pth", weights_only=False) if save is torch.save else pickle.loads(
        (tmp_path / "w.pth").read_bytes()
    )
    assert victim.exists()  # the file was dangerous


@pytest.mark.parametrize("value", [{"a": 1}, [torch.ones(1)], {"model": {"a": "text"}}, torch.ones(2)])
def test_anything_but_named_tensors_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: weights file; expected a dictionary of tensors"):
        load_tensors(tmp_path / "w.pth")


def as_mobile_sam(release):
    """The release's encoder and decoder tensors under the names that MobileSAM has for them."""
    encoder = {name: value for name, value in release.items() if name.startswith("SemiTViT.") and "med_" not in name}
    shared = {name: value for name, value in release.items() if name.startswith(("mask_decoder.", "prompt_encoder."))}
    encoder = {
        f"image_encoder.{name.removeprefix('SemiTViT.')}": v for name, v in encoder.items() if "_med" not in name
    }
    return encoder | shared | {"mask_decoder.iou_token.weight": torch.zeros(1, 256)}


def check_body(model, release):
    """Encoder, decoder and statistics of every modality are the file's."""
    state = model.state_dict()
    assert torch.equal(state["encoder.neck.2.weight"], release["SemiTViT.neck.2.weight"])
    name = "layers.2.blocks.3.attn.attention_biases"
    assert torch.equal(state[f"encoder.{name}"], release[f"SemiTViT.{name}"])
    name = "transformer.final_attn_token_to_image.q_proj.weight"
    assert torch.equal(state[f"decoder.{name}"], release[f"mask_decoder.{name}"])
    fourier = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    assert torch.equal(state["decoder.fourier"], release[fourier])
    norms = {name: m for name, m in model.encoder.named_modules() if isinstance(m, ModalityBatchNorm)}
    assert len(norms) == 27
    for name, norm in norms.items():
        for controller in model.controllers.values():
            assert torch.equal(controller.statistics[norm.index].mean, release[f"SemiTViT.{name}.running_mean"])
            assert torch.equal(controller.statistics[norm.index].var, release[f"SemiTViT.{name}.running_var"])


def test_start_from_mobile_sam(tmp_path, release_state):
    torch.save(as_mobile_sam(release_state), tmp_path / "mobile_sam.pt")
    model = DeLightSAM(HEADS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    said = load_pretrained(model, tmp_path / "mobile_sam.pt")
    assert "MobileSAM" in said and "tensors taken" in said
    check_body(model, release_state)
    for name, value in model.state_dict().items():
        if name.startswith(("prompt.", "heads.", "decoder.detail")) or ".blocks." in name.partition("controllers.")[2]:
            assert torch.equal(value, before[name]), name


def test_start_from_a_release(tmp_path, release_state):
    torch.save(release_state, tmp_path / "release.pth")
    model = DeLightSAM(HEADS)
    assert "De-LightSAM release" in load_pretrained(model, tmp_path / "release.pth")
    check_body(model, release_state)
    generator = "patch_decoder.0.weight"
    assert torch.equal(model.state_dict()[f"prompt.{generator}"], release_state[generator])


def test_start_from_one_of_our_models(tmp_path):
    trained = DeLightSAM({"ct": HeadSpec("CT", 2)})
    state = {name: torch.randn_like(value) for name, value in trained.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    model = DeLightSAM(HEADS | {"ct": HeadSpec("CT", 3)})
    queries = model.heads["ct"].queries.detach().clone()
    assert "one of our models" in load_pretrained(model, tmp_path / "model.safetensors")
    now = model.state_dict()
    for name, value in state.items():
        if name != "heads.ct.queries":
            assert torch.equal(now[name], value), name
    assert torch.equal(now["heads.ct.queries"], queries)  # three classes now: these start anew
    norm = model.encoder.patch_embed.seq[0].bn
    assert torch.equal(model.controllers["MRI"].statistics[norm.index].mean, norm.running_mean)


@pytest.mark.parametrize("change", ["foreign", "missing", "shape"])
def test_weights_that_do_not_fit_are_refused(tmp_path, release_state, change):
    state = as_mobile_sam(release_state)
    first = "image_encoder.patch_embed.seq.0.c.weight"
    if change == "foreign":
        state = {"conv1.weight": torch.ones(64, 3, 7, 7)}
    elif change == "missing":
        del state[first]
    else:
        state[first] = torch.ones(96, 3, 4, 4)
    torch.save(state, tmp_path / "w.pth")
    model = DeLightSAM(HEADS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match=r"w\.pth: .*encoder\.patch_embed\.seq\.0\.c\.weight \[32, 3, 3, 3\]"):
        load_pretrained(model, tmp_path / "w.pth")
    assert same(model.state_dict(), before)
