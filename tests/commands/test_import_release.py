"""dlsam_import_release: checkpoints of De-LightSAM's authors become a model folder that predicts what they predict."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.model_folder import load_model
from delightsam_pipeline.model.delightsam import HeadSpec
from delightsam_pipeline.model.release import from_release

MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
CONTROLLER = ("med_dah", "_med", "med_attention", "running_mean")


@pytest.fixture(autouse=True)
def one_core(same_numbers_on_one_core):
    """For every test here."""


@pytest.fixture(scope="module")
def other_state(release_state):
    """A checkpoint of another modality: the same shared tensors, another controller, other running statistics."""
    return {
        name: 0.5 * value if any(part in name for part in CONTROLLER) else value
        for name, value in release_state.items()
    }


@pytest.fixture(scope="module")
def files(release_state, other_state, tmp_path_factory) -> tuple[Path, Path]:
    """Two checkpoints on disk, the second as a training on several GPUs may leave it; names that say nothing."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.save(release_state, folder / "first=best.pth")
    torch.save({"state_dict": {f"module.{name}": v for name, v in other_state.items()}}, folder / "second.pth")
    return folder / "first=best.pth", folder / "second.pth"


def test_one_checkpoint(call, empty, files):
    answer = call("import_release", f"xray={files[0]}", "-o", "made")
    assert answer.code == 0, answer
    model, plans, card = load_model(Path("made"))
    assert model.specs == {"X-ray": HeadSpec("X-ray", 1, query=1)} and card.joint == 7
    assert list(plans) == ["X-ray"] and plans["X-ray"].modality_id == 1
    digest = hashlib.sha256(files[0].read_bytes()).hexdigest()
    assert card.provenance["checkpoints"] == {"X-ray": {"file": "first=best.pth", "sha256": digest}}
    assert card.provenance["weights_licence"].startswith(
        "not confirmed: the README of https://github.com/xq141839/De-LightSAM"
    )
    assert card.provenance["intended_use"] == "research; not for clinical use"
    assert card.provenance["torch"] == torch.__version__ and "delightsam-pipeline" in card.provenance["package"]
    written = sorted(Path("made").rglob("*.*"), key=lambda file: file.stat().st_mtime_ns)
    assert [file.name for file in written] == ["model.safetensors", "X-ray.json", "model.json"]


def test_two_checkpoints_give_what_each_gives(call, empty, files, release_state, other_state):
    assert call("import_release", f"colonoscopy={files[1]}", f"0={files[0]}", "-o", "made").code == 0
    model, _, _ = load_model(Path("made"))
    assert list(model.specs) == ["dermoscopy", "endoscopy"]
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for number, state in ((0, release_state), (5, other_state)):
            expected = from_release(state).eval()(images, number)
            assert all(torch.equal(a, b) for a, b in zip(model(images, number), expected, strict=True))
        assert not torch.equal(model(images, 0)[2], model(images, 5)[2])


def test_one_file_for_two_modalities_is_said(call, empty, files):
    Path("made").mkdir()
    answer = call("import_release", f"0={files[0]}", f"microscopy={files[0]}", "-o", "made")
    assert answer.code == 0
    assert "the files of dermoscopy and microscopy are the same" in answer.out + answer.err


def test_tensors_that_should_be_shared_are_named(fails, empty, files, other_state):
    names = ["SemiTViT.neck.0.weight", "mask_query.weight"]
    torch.save(other_state | {name: 2 * other_state[name] for name in names}, "third.pth")
    line = fails("import_release", f"dermoscopy={files[0]}", "fundus=third.pth", f"us={files[1]}", "-o", "made")
    assert "should be shared with the checkpoint of dermoscopy" in line and str(files[0]) in line
    assert "found in that of fundus SemiTViT.neck.0.weight, mask_query.weight; make a model of each" in line
    assert not Path("made").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:1000]), "bad.pth: weights cannot be read safely"),
        (lambda file: torch.save({"conv1.weight": torch.ones(3)}, file), "bad.pth: is no release checkpoint; expected"),
        (lambda file: file.unlink(), "bad.pth: no such weights file"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(fails, empty, files, spoil, message):
    file = empty / "bad.pth"
    file.write_bytes(files[0].read_bytes()[:2000])
    spoil(file)
    assert message in fails("import_release", f"dermoscopy={files[0]}", f"fundus={file}", "-o", "made")
    assert not Path("made").exists()


def test_a_tensor_of_another_shape_is_named(fails, empty, release_state):
    torch.save(release_state | {"SemiTViT.neck.0.weight": torch.zeros(3, 2)}, "bad.pth")
    line = fails("import_release", "dermoscopy=bad.pth", "-o", "made")
    assert (
        "bad.pth: weights do not fit this model; expected encoder.neck.0.weight [256, 320, 1, 1]; found [3, 2]" in line
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("CT=x.pth", "the release has no modality 'CT', only 0 dermoscopy, 1 X-ray"),
        ("6=x.pth", "the release has no modality '6'"),
        ("=x.pth", "the release has no modality ''"),
        ("ISIC_dermoscopy.pth", "is not MODALITY=FILE, such as dermoscopy=ISIC_dermoscopy.pth"),
        ("dermoscopy=", "'dermoscopy=' is not MODALITY=FILE"),
    ],
)
def test_a_wrong_modality_is_refused(refuses, argument, message):
    assert message in refuses("import_release", argument, "-o", "made")


def test_a_modality_is_given_once(fails, files):
    line = fails("import_release", f"skin={files[0]}", f"0={files[1]}", "-o", "made")
    assert f"dermoscopy is given twice; found {files[0]} and {files[1]}" in line


def test_nothing_is_written_over(fails, empty, files):
    Path("made").mkdir()
    Path("made", "notes.txt").write_text("mine")
    for output in ("made", "made/notes.txt"):
        line = fails("import_release", f"dermoscopy={files[0]}", "-o", output)
        assert f"{output}: exists and is not an empty folder" in line
    assert [file.name for file in Path("made").iterdir()] == ["notes.txt"]


def test_end_to_end_a_grey_picture_is_segmented_as_the_release_does(call, empty, files, release_state):
    """A picture of 256 x 128, four times enlarged, has a mask cell for every pixel: nothing is interpolated back."""
    assert call("import_release", f"ultrasound={files[0]}", "-o", "made").code == 0
    y, x = np.mgrid[0:256, 0:128]
    grey = (127 + 90 * np.sin(x / 9) * np.cos(y / 21)).astype(np.uint8)
    Image.fromarray(grey).save("in.png")
    answer = call("predict", "-m", "made", "-i", "in.png", "-o", "out.png", "--device", "cpu")
    assert answer.code == 0, answer
    mask = np.asarray(Image.open("out.png"))

    colours = torch.from_numpy(grey).float().expand(1, 3, 256, 128)
    scaled = (F.interpolate(colours, scale_factor=4, mode="bilinear") - MEAN) / MEAN
    canvas = F.pad(scaled, (256, 256, 0, 0), mode="replicate")
    device = choose_device("cpu")
    with torch.inference_mode(), device.autocast():
        logits = from_release(release_state).eval()(canvas, 2)[0].float()
    expected = (logits[0, 0, :, 64:192] > 0).numpy()
    assert mask.shape == expected.shape and 0.1 < expected.mean() < 0.9
    # bfloat16 rounds by the layout in memory, and much of what untrained weights say lies near 0
    assert (mask == expected).mean() > (0.98 if device.bf16 else 0.9999)
