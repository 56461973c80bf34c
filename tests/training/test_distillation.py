"""Distillation: its stages hand on what they should, train only what they should, and go on where they were."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.model_folder import head_spec
from delightsam_pipeline.inference.predictor import Predictor
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.model.sam_vit import SamShape, SamViT
from delightsam_pipeline.model.teacher import make_teacher
from delightsam_pipeline.training.distillation import Distillation, Teaching
from delightsam_pipeline.training.features import FeatureCache, Imitation, batches_within
from delightsam_pipeline.training.loading import Source, batches
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.setup import Options, start

TAUGHT = ("prompt.", "decoder.transformer.", "decoder.output_upscaling.", "heads.")


@pytest.fixture(scope="module", autouse=True)
def small_teacher():
    """A teacher that is another network than the student, but quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("delightsam_pipeline.model.teacher.WIDE", (32, 64, 64, 96))
        yield


@pytest.fixture(scope="module")
def cpu():
    return choose_device("cpu")


@pytest.fixture(scope="module")
def stores(make_store, blobs):
    short = {"training": {"batch_size": 2, "steps_per_epoch": 2}, "patch_size": (64, 64)}
    images, masks = blobs(5, seed=3)
    return {
        "us": make_store("Dataset001_US", "ultrasound", *blobs(5, seed=1), **short),
        "xr": make_store("Dataset003_XR", "X-ray", [255 - image for image in images], masks, **short),
    }


def distillation(stores, folder, cpu, stop=lambda: False, epochs=6, **teaching):
    teaching = Teaching(**{"teacher": "wide"} | teaching)
    return Distillation(stores, folder, Options("0", epochs=epochs), cpu, teaching, stop)


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def finished(stores, cpu, tmp_path_factory):
    """A whole distillation from a teacher of our own: its folder, and the weights of its stages."""
    folder = tmp_path_factory.mktemp("distilled")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert distillation(stores, folder, cpu).run()
    torch.set_num_threads(threads)
    stages = {name: weights(folder / "stages" / name) for name in ("teacher", "body", "controllers")}
    return SimpleNamespace(folder=folder, final=weights(folder), **stages)


@pytest.fixture
def sam_file(tmp_path):
    """A file like SAM's, of a small ViT and a whole decoder."""
    shape = SamShape(96, 2, 4, (1,))
    vit = SamViT(shape, 128)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    state = {f"image_encoder.{name}": value for name, value in vit.state_dict().items()}
    decoder = make_teacher("wide", {}).decoder.state_dict()
    state |= {f"mask_decoder.{n}": value for n, value in decoder.items() if n != "fourier"}
    state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] = decoder["fourier"]
    torch.save(state, tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


def test_the_body_learns_under_the_teachers_decoder(finished):
    taught = [name for name in finished.teacher if name.startswith(TAUGHT)]
    assert len(taught) > 80
    assert not any(name in finished.body for name in taught)  # frozen: not among what the stage trains
    assert "encoder.neck.0.weight" in finished.body and "decoder.lateral4.weight" in finished.body


def test_only_controllers_learn_the_features(finished):
    assert {name.split(".")[0] for name in finished.controllers if "statistics" not in name} >= {"controllers"}
    moved = [n for n, value in finished.controllers.items() if n in finished.body and not value.equal(finished.body[n])]
    assert moved and all(name.startswith("controllers.") for name in moved)
    assert not any("statistics" in name for name in moved)  # batch norm in evaluation
    record = json.loads((finished.folder / "stages" / "distillation.json").read_text())
    for head in ("us", "xr"):
        assert 0 < record["after"][head]["error"] < record["before"][head]["error"]


def test_the_model_predicts_by_itself(finished, tmp_path):
    assert not (finished.folder / "stages" / "features").exists()
    assert not any((finished.folder / "stages").rglob("model.json"))
    provenance = json.loads((finished.folder / "model.json").read_text())["provenance"]
    assert provenance["teacher"] == "wide" and provenance["pretrained"] is None
    assert list(Predictor.load(finished.folder, "cpu").plans) == ["us", "xr"]
    assert (finished.folder / "validation" / "xr" / "summary.json").is_file()


def test_a_stopped_distillation_goes_on_as_if_undisturbed(finished, stores, cpu, tmp_path):
    """Stopped in every stage; a stage that was done is not trained again."""
    done = {}
    for count in (5, 9, 8, 3):
        asked = iter(range(count))
        assert not distillation(stores, tmp_path, cpu, lambda asked=asked: next(asked, None) is None).run()
        for stage in (tmp_path / "stages").glob("*/done"):
            written = (stage.parent / "last.pt").stat().st_mtime_ns
            assert done.setdefault(stage.parent.name, written) == written
    assert done
    assert distillation(stores, tmp_path, cpu).run()
    assert same(weights(tmp_path), finished.final)


def test_a_finished_distillation_without_its_stages_only_validates(finished, stores, cpu, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("stages"))
    assert distillation(stores, tmp_path / "copy", cpu).run()
    assert not (tmp_path / "copy" / "stages").exists()
    assert same(weights(tmp_path / "copy"), finished.final)


def test_restart_begins_with_the_teacher_and_can_be_stopped(finished, stores, cpu, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "copy")
    asked = iter(range(2))
    again = distillation(stores, tmp_path / "copy", cpu, lambda: next(asked, None) is None)
    assert not replace(again, options=replace(again.options, restart=True)).run()
    assert not (tmp_path / "copy" / "model.safetensors").exists()
    assert [folder.name for folder in (tmp_path / "copy" / "stages").iterdir()] == ["teacher"]


def test_what_does_not_belong_is_refused_before_the_first_step(finished, stores, cpu, tmp_path, sam_file):
    """Another kind of run in the folder, another teacher, and a folder of somebody's own."""
    assert train(start(stores, tmp_path / "plain", Options("0", epochs=1), cpu))
    with pytest.raises(UserError, match=r"last\.pt: belongs to a run with other .*first weights"):
        distillation(stores, tmp_path / "plain", cpu).run()
    with pytest.raises(UserError, match=r"last\.pt: belongs to a run with other .*first weights"):
        distillation(stores, finished.folder, cpu, teacher=str(sam_file)).run()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("precious")
    with pytest.raises(UserError, match="holds other files and no model"):
        distillation(stores, tmp_path / "own", cpu).run()
    assert [file.name for file in (tmp_path / "own").iterdir()] == ["notes.txt"]
    assert not (tmp_path / "plain" / "stages").exists()


def test_without_refinement_the_distilled_student_is_the_model(stores, cpu, tmp_path):
    assert distillation(stores, tmp_path, cpu, epochs=3, refine=False).run()
    final, teacher = weights(tmp_path), weights(tmp_path / "stages" / "teacher")
    controllers, body = (weights(tmp_path / "stages" / name) for name in ("controllers", "body"))
    for name, value in final.items():
        source = next(s for s in (controllers, body, teacher) if name in s)
        assert torch.equal(value, source[name]), name


def test_kept_features_stand_in_for_the_teacher(stores, cpu, tmp_path):
    """A batch seen again asks the cache, not the teacher, and says the same."""
    plans = {name: store.plan for name, store in stores.items()}
    sources = {name: Source.of(store, list(store.cases)) for name, store in stores.items()}
    specs = {name: head_spec(plan) for name, plan in plans.items()}
    teacher, student = make_teacher("wide", specs).eval(), DeLightSAM(specs).eval()
    first, again, third = (next(iter_) for iter_ in [iter(batches(sources, 7, 0, 0, period=2))] * 3)
    assert first["head"] != again["head"] and (third["images"] == first["images"]).all()
    cache = FeatureCache(tmp_path, "key")
    error = Imitation(teacher, cache)(student, first, plans[first["head"]], cpu)[0]
    kept = Imitation(None, cache)(student, third, plans[third["head"]], cpu)[0]
    assert error > 0 and torch.equal(kept, error)
    with pytest.raises(AttributeError):  # no features of this batch, and no teacher to ask
        Imitation(None, cache)(student, again, plans[again["head"]], cpu)


def test_the_cache_stays_within_its_bytes(stores):
    plans = {name: store.plan for name, store in stores.items()}
    of_one_batch = 2 * 256 * 4 * 4 * 2
    assert batches_within(2 * of_one_batch, plans) == 2
    assert batches_within(5.9 * of_one_batch, plans) == 4  # whole rounds of two heads
    assert batches_within(2 * of_one_batch - 1, plans) == batches_within(0, plans) == 0


def test_the_cache_keeps_one_key_and_survives_damage(tmp_path):
    first = FeatureCache(tmp_path, "one")
    value = torch.randn(2, 256, 4, 4)
    first.put(3, value)
    assert torch.equal(first.get(3), value.half()) and first.get(4) is None
    file = next(tmp_path.rglob("3.safetensors"))
    file.write_bytes(file.read_bytes()[:50])
    assert first.get(3) is None
    assert FeatureCache(tmp_path, "two").get(3) is None
    assert not file.exists()  # another key's features go


def test_a_sam_teacher_learns_by_its_adaptation_alone(stores, cpu, tmp_path, sam_file):
    assert distillation(stores, tmp_path / "run", cpu, epochs=3, teacher=str(sam_file)).run()
    teacher = weights(tmp_path / "run" / "stages" / "teacher")
    encoder = {name for name in teacher if name.startswith("encoder.")}
    assert encoder and all(name.startswith("encoder.adaptation.") for name in encoder)
    assert Predictor.load(tmp_path / "run", "cpu").plans


def test_sams_own_weights_are_no_encoder_to_begin_with(stores, cpu, tmp_path, sam_file):
    """As --pretrained they give the decoder alone, so the body has still to be trained."""
    options = Options("0", epochs=3, pretrained=sam_file)
    teaching = Teaching(str(sam_file), refine=False)
    assert Distillation(stores, tmp_path / "run", options, cpu, teaching).run()
    assert (tmp_path / "run" / "stages" / "body" / "done").exists()
    assert json.loads((tmp_path / "run" / "model.json").read_text())["provenance"]["pretrained"] == str(sam_file)


def test_a_file_that_is_no_sam_is_refused(stores, cpu, tmp_path):
    torch.save({"conv.weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: .*image encoder of Segment Anything"):
        distillation(stores, tmp_path / "run", cpu, teacher=str(tmp_path / "other.pth")).run()
    with pytest.raises(UserError, match=r"absent\.pth: no such"):
        distillation(stores, tmp_path / "run", cpu, teacher=str(tmp_path / "absent.pth")).run()
