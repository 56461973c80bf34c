"""What is counted, against the authors' figures and against sums by hand."""

import time

import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.model.costs import parameters, work
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec

CONTROLLER = 3_144_202 + 10  # the authors', and a gate in each of the ten blocks
RELEASE = 12_789_587
UNUSED = 321_640 + 6_220  # of the release: a classifier, and the prompt encoder's points, boxes and masks
# width, blocks and tokens of a 224 x 224 image in the stages with attention; their windows need no padding
STAGES = ((128, 2, 28 * 28), (160, 6, 14 * 14), (320, 2, 14 * 14))


def release() -> DeLightSAM:
    return DeLightSAM({"a": HeadSpec("US", 1, query=0)}, fit_windows=False, detail=False, joint=7)


def test_the_release_has_its_parameters():
    counts = parameters(release())
    assert counts["controllers"] == {"US": CONTROLLER}
    assert counts["heads"] == {"a": 0}
    parts = sum(counts[part] for part in ("encoder", "prompt", "decoder", "joint"))
    assert parts + CONTROLLER == RELEASE - UNUSED + 10


def test_every_parameter_is_counted_once():
    heads = {"a.1": HeadSpec("US", 1), "a.2": HeadSpec("US", 3, in_channels=4), "b": HeadSpec("my own", 2)}
    model = DeLightSAM(heads)
    counts = parameters(model)
    assert counts["controllers"] == {"US": CONTROLLER, "my own": CONTROLLER}
    mlp = 2 * (256 * 256 + 256) + 256 * 32 + 32
    assert counts["heads"] == {"a.1": 256 + mlp, "a.2": 3 * 256 + mlp + 4 * 3 + 3, "b": 2 * 256 + mlp}
    shared = counts["encoder"] + counts["prompt"] + counts["decoder"]
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert shared + sum(counts["controllers"].values()) + sum(counts["heads"].values()) == whole


def test_the_work_of_the_release_is_as_measured_elsewhere():
    flop = work(release(), 0, 1024, 1024)
    measured = {"encoder": 77.5, "controller": 32.1, "decoder": 3.6, "prompt": 0.14}
    for part, giga in measured.items():
        assert flop[part] / 1e9 == pytest.approx(giga, rel=0.03 if giga < 1 else 0.005), part
    assert sum(flop.values()) / 1e9 == pytest.approx(113.4, rel=1e-3)


def test_controller_head_and_prompt_by_hand():
    flop = work(DeLightSAM({"a": HeadSpec("US", 2, in_channels=5)}), "a", 224, 224)
    # per token two linears of 4 C^2 multiply-adds, and its product with the controller's token
    assert flop["controller"] == sum(2 * blocks * tokens * (8 * c * c + c) for c, blocks, tokens in STAGES)
    mlp = 2 * (256 * 256 + 256 * 256 + 256 * 32)
    assert flop["head"] == 2 * 224 * 224 * 5 * 3 + 2 * mlp + 2 * 2 * 32 * 56 * 56
    assert flop["prompt"] == 2 * (7 * 7 * (4 * 256 * 64 + 64) + 14 * 14 * 256)


def test_work_grows_with_the_batch_and_the_contour_path_is_in_the_decoder():
    ours, without = (DeLightSAM({"a": HeadSpec("US", 1)}, detail=detail) for detail in (True, False))
    one, two, less = work(ours, "a", 64, 96), work(ours, "a", 64, 96, batch=2), work(without, "a", 64, 96)
    # the position encoding is made once for all images of a batch
    encoding = 2 * (4 * 6) * 2 * 128
    assert two == {part: 2 * value - (encoding if part == "decoder" else 0) for part, value in one.items()}
    path = {8: (128, 64, 8 * 12), 4: (64, 32, 16 * 24)}
    extra = sum(2 * pixels * c_in * c_out for c_in, c_out, pixels in path.values())
    assert one == less | {"decoder": less["decoder"] + extra}


def test_counting_leaves_the_model_alone_and_is_quick():
    model = DeLightSAM({"a": HeadSpec("US", 1)}).train()
    before = {name: (id(value), value.clone()) for name, value in model.named_parameters()}
    work(model, "a", 32, 32)  # imports what torch counts with
    begin = time.process_time()
    work(model, "a", 4096, 4096, batch=8)  # 15 TFLOP
    assert time.process_time() - begin < 3
    assert model.training
    for name, value in model.named_parameters():
        assert id(value) == before[name][0]
        assert value.requires_grad
        assert value.equal(before[name][1])


def test_an_unknown_head_is_named():
    with pytest.raises(UserError, match="no head 'b'; found a"):
        work(DeLightSAM({"a": HeadSpec("US", 1)}), "b", 64, 64)
