"""Weights to start from: recognised by what is in them, taken where they fit, and everything else is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.controller import pooled
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.layers import ModalityBatchNorm
from delightsam_pipeline.model.pretrained import load_pretrained, shared_statistics
from delightsam_pipeline.model.release import from_release

REFERENCE = Path(__file__).parent / "reference"
HEADS = {"ct": HeadSpec("CT", 2), "mri": HeadSpec("MRI", 1)}
VITS = {"SAM ViT-B": (768, 12), "SAM ViT-L": (1024, 24), "SAM ViT-H": (1280, 32)}
VITS["a SAM of width 96 and depth 4"] = (96, 4)
FOURIER = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
STEM = "image_encoder.patch_embed.seq.0.c.weight"


def random_state(layout):
    """Weights of all these shapes; variances are positive."""
    state = {name: torch.randn(shape) if shape else torch.tensor(7) for name, shape in layout.items()}
    return {name: value.abs() if name.endswith("_var") else value for name, value in state.items()}


@pytest.fixture(scope="module")
def mobile_sam():
    return random_state(json.loads((REFERENCE / "mobile_sam_layout.json").read_text()))


@pytest.fixture
def model():
    return DeLightSAM(HEADS)


def as_sam(mobile_sam, width, depth):
    """MobileSAM's decoder and prompt encoder are SAM's; of the ViT, what tells its size."""
    state = {name: value for name, value in mobile_sam.items() if not name.startswith("image_encoder.")}
    state["image_encoder.patch_embed.proj.weight"] = torch.randn(width, 3, 16, 16)
    return state | {f"image_encoder.blocks.{block}.norm1.weight": torch.ones(width) for block in range(depth)}


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def counts(groups):
    return {(group.what, *group.owners): group.tensors for group in groups}


def remarks(groups):
    return {group.what: group.remark for group in groups}


def same_under(state, ours, theirs, file):
    """Every tensor of the network under one name is the file's under the other; how many they are."""
    names = [name for name in state if name.startswith(ours)]
    assert all(torch.equal(state[name], file[theirs + name.removeprefix(ours)]) for name in names)
    return len(names)


def check_statistics(model, file, prefix):
    """The file's running statistics are those of every modality; how many norms they are for."""
    norms = {name: m for name, m in model.encoder.named_modules() if isinstance(m, ModalityBatchNorm)}
    for name, norm in norms.items():
        for controller in model.controllers.values():
            assert torch.equal(controller.statistics[norm.index].mean, file[f"{prefix}{name}.running_mean"])
            assert torch.equal(controller.statistics[norm.index].var, file[f"{prefix}{name}.running_var"])
    return len(norms)


def test_mobile_sam(tmp_path, mobile_sam, model):
    torch.save(mobile_sam, tmp_path / "weights.pt")
    before = copied(model)
    report = load_pretrained(model, tmp_path / "weights.pt")
    now = model.state_dict()
    assert report.kind == "MobileSAM"
    assert same_under(now, "encoder.", "image_encoder.", mobile_sam) == 271
    assert same_under(now, "decoder.transformer.", "mask_decoder.transformer.", mobile_sam) == 82
    assert same_under(now, "decoder.output_upscaling.", "mask_decoder.output_upscaling.", mobile_sam) == 6
    assert torch.equal(now["decoder.fourier"], mobile_sam[FOURIER])
    assert check_statistics(model, mobile_sam, "image_encoder.") == 27
    for name, value in before.items():
        if name.startswith(("prompt.", "heads.", "decoder.lateral")) or ".blocks." in name.partition("controllers.")[2]:
            assert torch.equal(now[name], value), name
    assert counts(report.taken) == {
        **{("encoder",): 271, ("decoder",): 88, ("position encoding",): 1},
        ("batch-norm statistics", "CT", "MRI"): 2 * 2 * 27,
    }
    left = {("batch counters",): 27, ("classifier of TinyViT",): 4, ("prompt encoder",): 16, ("IoU head",): 7}
    assert counts(report.left) == left | {("queries and mask MLPs",): 25}
    assert len(mobile_sam) == 271 + 88 + 1 + 27 + 4 + 16 + 7 + 25
    anew = {group.what for group in report.anew}
    assert anew == {"prompt generator", "contour path", "controllers", "heads"}


def test_the_report_is_a_few_clear_lines(tmp_path, mobile_sam, model):
    torch.save(mobile_sam, tmp_path / "weights.pt")
    lines = str(load_pretrained(model, tmp_path / "weights.pt")).splitlines()
    assert lines[0].startswith(f"{tmp_path / 'weights.pt'} is MobileSAM")
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["taken", "left out", "begins anew"]
    assert "encoder (271)" in lines[1] and "batch-norm statistics of CT, MRI (108: " in lines[1]
    assert "IoU head (7: masks are not ranked here)" in lines[2]
    assert "controllers of CT, MRI (" in lines[3] and "heads of ct, mri (" in lines[3]


@pytest.mark.parametrize("kind", VITS)
def test_sam_gives_its_decoder(tmp_path, mobile_sam, model, kind):
    torch.save(as_sam(mobile_sam, *VITS[kind]), tmp_path / "weights.pth")
    before = copied(model)
    report = load_pretrained(model, tmp_path / "weights.pth")
    now = model.state_dict()
    assert report.kind == kind
    assert counts(report.taken) == {("decoder",): 88, ("position encoding",): 1}
    assert same_under(now, "decoder.transformer.", "mask_decoder.transformer.", mobile_sam) == 82
    assert same_under(now, "decoder.output_upscaling.", "mask_decoder.output_upscaling.", mobile_sam) == 6
    assert counts(report.left)[("image encoder",)] == 1 + VITS[kind][1]
    assert "--teacher" in remarks(report.left)["image encoder"]
    taken = ("decoder.transformer.", "decoder.output_upscaling.", "decoder.fourier")
    assert all(torch.equal(now[name], value) for name, value in before.items() if not name.startswith(taken))


def test_tensors_that_nobody_knows_are_one_line(tmp_path, mobile_sam, model):
    torch.save(mobile_sam | {f"mask_decoder.hf_mlp.{n}.weight": torch.ones(2) for n in range(50)}, tmp_path / "w.pt")
    assert "other tensors (50: unknown here)" in str(load_pretrained(model, tmp_path / "w.pt"))


def test_sams_decoder_computes_what_mobile_sams_does(tmp_path, mobile_sam, model):
    other = DeLightSAM(HEADS)
    for part in ("prompt", "heads"):
        getattr(other, part).load_state_dict(getattr(model, part).state_dict())
    features = torch.randn(1, 256, 4, 4), torch.randn(1, 64, 16, 16), torch.randn(1, 128, 8, 8)
    torch.save(mobile_sam, tmp_path / "a.pt")
    torch.save(as_sam(mobile_sam, 768, 12), tmp_path / "b.pt")
    load_pretrained(model, tmp_path / "a.pt")
    with torch.inference_mode():
        logits = model.eval().decode(features, "ct")[0]
        assert not torch.equal(other.eval().decode(features, "ct")[0], logits)
        load_pretrained(other, tmp_path / "b.pt")
        assert torch.equal(other.decode(features, "ct")[0], logits)


def test_a_release_gives_its_shared_body(tmp_path, release_state, model):
    torch.save(release_state, tmp_path / "mobile_sam.pt")  # what it is called does not count
    before = copied(model)
    report = load_pretrained(model, tmp_path / "mobile_sam.pt")
    now = model.state_dict()
    assert report.kind == "a De-LightSAM release"
    assert same_under(now, "encoder.", "SemiTViT.", release_state) == 271
    assert same_under(now, "prompt.", "", release_state) == 10
    assert check_statistics(model, release_state, "SemiTViT.") == 27
    controllers = [name for name in before if name.startswith("controllers.") and ".blocks." in name]
    assert all(torch.equal(now[name], before[name]) for name in controllers)
    assert counts(report.left)[("controller",)] == 80
    assert "does not say which" in remarks(report.left)["controller"]
    assert sum(group.tensors for group in (*report.taken[:4], *report.left)) == len(release_state)


def our_state(heads):
    state = DeLightSAM(heads).state_dict()
    return {name: value.abs() + 1 if name.endswith("var") else torch.randn_like(value) for name, value in state.items()}


@pytest.mark.parametrize("given", ["model.safetensors", "best.safetensors", "."])
def test_one_of_our_models(tmp_path, given):
    state = our_state({"ct": HeadSpec("CT", 2), "us": HeadSpec("ultrasound", 1)})
    save_file(state, tmp_path / ("model.safetensors" if given == "." else given))
    model = DeLightSAM(HEADS | {"ct": HeadSpec("CT", 3)})
    queries = model.heads["ct"].queries.detach().clone()
    report = load_pretrained(model, tmp_path / given)
    now = model.state_dict()
    assert report.kind == "one of our models"
    for name, value in state.items():
        if "us" not in name.split(".") and "ultrasound" not in name and name != "heads.ct.queries":
            assert torch.equal(now[name], value), name
    assert torch.equal(now["heads.ct.queries"], queries)  # three classes now: these start anew
    assert counts(report.taken)[("heads", "ct")] == 6
    assert ("heads", "ct") in counts(report.left) and ("heads", "us") in counts(report.left)
    assert "1: needs heads.ct.queries [3, 256], has [2, 256]" in str(report)
    assert "heads of us (7: this network has none)" in str(report)
    assert ("controllers", "MRI") in counts(report.anew) and ("controllers", "CT") in counts(report.taken)


def test_a_new_modality_starts_from_the_statistics_pooled_over_the_files(tmp_path):
    state = our_state({"ct": HeadSpec("CT", 2), "us": HeadSpec("ultrasound", 1)})
    save_file(state, tmp_path / "w.safetensors")
    model = DeLightSAM(HEADS)
    report = load_pretrained(model, tmp_path / "w.safetensors")
    for index, own in enumerate(model.controllers["MRI"].statistics):
        ct, us = (f"controllers.{name}.statistics.{index}" for name in ("CT", "ultrasound"))
        mean = (state[f"{ct}.mean"] + state[f"{us}.mean"]) / 2
        square = (state[f"{ct}.var"] + state[f"{ct}.mean"] ** 2 + state[f"{us}.var"] + state[f"{us}.mean"] ** 2) / 2
        assert torch.allclose(own.mean, mean, atol=1e-6) and torch.allclose(own.var, square - mean**2, atol=1e-5)
        assert torch.equal(model.controllers["CT"].statistics[index].mean, state[f"{ct}.mean"])
    assert len(model.controllers["MRI"].statistics) == 27
    assert "batch-norm statistics of MRI (54: pooled over the file's modalities)" in str(report)


def test_a_release_as_a_model_of_ours(tmp_path, release_state, model):
    save_file(from_release(release_state).state_dict(), tmp_path / "model.safetensors")
    report = load_pretrained(model, tmp_path)
    assert same_under(model.state_dict(), "encoder.", "SemiTViT.", release_state) == 271
    assert check_statistics(model, release_state, "SemiTViT.") == 27  # of one modality, pooled: its own
    assert counts(report.left)[("joint queries and mask MLP",)] == 7
    assert counts(report.anew)[("contour path",)] == 4


def test_pooled_statistics_are_those_of_all_values_together():
    values = 3 * torch.randn(3, 50, 4) + torch.tensor([0.0, 100.0, -7.0])[:, None, None]
    mean, var = pooled(list(values.mean(1)), list(values.var(1, correction=0)))
    together = values.flatten(0, 1)
    assert torch.allclose(mean, together.mean(0)) and torch.allclose(var, together.var(0, correction=0))


def test_shared_statistics_of_a_model_in_memory():
    model = DeLightSAM(HEADS)
    for modality, value in (("CT", 1.0), ("MRI", 3.0)):
        model.controllers[modality].statistics[0].mean.fill_(value)
    shared = shared_statistics(model, model.state_dict())
    assert len(shared) == 2 * 27
    assert shared["encoder.patch_embed.seq.0.bn.running_mean"].eq(2).all()
    assert shared["encoder.patch_embed.seq.0.bn.running_var"].eq(2).all()  # 1 of each, and 1 between them


@pytest.mark.parametrize("change", ["shape", "missing"])
def test_a_part_that_does_not_fit_is_left_whole(tmp_path, mobile_sam, model, change):
    name = "mask_decoder.transformer.layers.1.mlp.lin1.weight"
    state = mobile_sam | {name: torch.ones(1024, 256)}
    if change == "missing":
        del state[name]
    torch.save(state, tmp_path / "w.pt")
    before = copied(model)
    report = load_pretrained(model, tmp_path / "w.pt")
    now = model.state_dict()
    decoder = [name for name in before if name.startswith(("decoder.transformer.", "decoder.output_upscaling."))]
    assert all(torch.equal(now[name], before[name]) for name in decoder)
    found = "[1024, 256]" if change == "shape" else "no such tensor"
    assert f"lin1.weight [2048, 256], has {found}" in remarks(report.left)["decoder"]
    assert counts(report.anew)[("decoder",)] == 88 and ("encoder",) in counts(report.taken)


MISFITS = {
    "foreign": (
        lambda s: {"conv1.weight": torch.ones(64, 3, 7, 7)},
        r"none of the weights.*found conv1.weight \[64, 3",
    ),
    "empty": (lambda s: {}, r"none of the weights.*found nothing"),
    "missing": (
        lambda s: {n: v for n, v in s.items() if n != STEM},
        r"seq\.0\.c\.weight \[32, 3, 3, 3\]; found no such",
    ),
    "shape": (lambda s: s | {STEM: torch.ones(96, 3, 4, 4)}, r"c\.weight \[32, 3, 3, 3\]; found \[96, 3, 4, 4\]"),
    "ours": (lambda s: {"encoder.conv.weight": torch.ones(3)}, r"expected encoder\.patch_embed.*found no such tensor"),
    "sam": (
        lambda s: as_sam(s, 768, 12) | {"mask_decoder.output_upscaling.0.bias": torch.ones(3)},
        r"does not fit the decoder; expected mask_decoder\.output_upscaling\.0\.bias \[64\]; found \[3\]",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_weights_that_do_not_fit_change_nothing(tmp_path, mobile_sam, model, case):
    change, message = MISFITS[case]
    torch.save(change(mobile_sam), tmp_path / "w.pth")
    before = copied(model)
    with pytest.raises(UserError, match=rf"w\.pth: .*{message}.*; give mobile_sam\.pt, SAM ViT-B"):
        load_pretrained(model, tmp_path / "w.pth")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_folder_without_weights(tmp_path, model):
    with pytest.raises(UserError, match=r"is not a model folder \(no model.safetensors\)"):
        load_pretrained(model, tmp_path)
