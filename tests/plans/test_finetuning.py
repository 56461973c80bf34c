"""Planning at the scale of a trained model: what is taken over, what stays the dataset's, and what is refused."""

from __future__ import annotations

import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import write_json
from delightsam_pipeline.plans.finetuning import Pretrained

MRI = {"channels": ("T1",), "modality": "MRI", "shapes": (40, 128, 160), "spacings": (3.0, 1.0, 1.0)}
CT = MRI | {"channels": ("CT",), "modality": "CT"}
PHOTOGRAPH = {"channels": ("R", "G", "B"), "modality": "dermoscopy", "shapes": (1, 400, 500)}
OTHER_NUMBERS = dict.fromkeys(("mean", "std", "min", "max", "median", "percentile_00_5", "percentile_99_5"), 7.0)
TAKEN = ("slicing_axis", "input", "scaling", "spacing", "patch_size", "tile_overlap", "normalisation", "resampling")


@pytest.fixture
def model(tmp_path):
    """A function: the folder of a trained model with these plans, by head; weights are not needed."""

    def make(**plans):
        for head, plan in plans.items():
            write_json(tmp_path / "model" / "plans" / f"{head}.json", plan.model_dump(mode="json"))
        write_json(tmp_path / "model" / "model.json", {"version": 1, "heads": {head: {} for head in plans}})
        return tmp_path / "model"

    return make


def test_scale_is_the_models_and_the_rest_the_datasets(plan_for, model):
    theirs = plan_for(overrides={"spacing": (0.7, 0.7), "resampling": "cubic", "tile_overlap": 0.4}, **CT)
    folder = model(Dataset001_CT=theirs)
    changes = CT | {"shapes": (30, 300, 300), "spacings": (1.0, 1.0, 4.0), "intensities": OTHER_NUMBERS}
    own = plan_for(labels=("left lung", "heart"), **changes)
    plan = plan_for(labels=("left lung", "heart"), plans_from=Pretrained.find(str(folder)), **changes)
    for name in TAKEN:
        assert getattr(plan, name) == getattr(theirs, name)
        assert plan.reasons[name].startswith(f"from {folder.parent.name}/{folder.name}, for fine-tuning (")
    assert own.spacing != plan.spacing and own.slicing_axis != plan.slicing_axis
    assert f"the rules would have taken {own.slicing_axis}:" in plan.reasons["slicing_axis"]
    assert "(the rules would have taken ct: " in plan.reasons["normalisation"]
    assert (plan.labels, plan.dataset, plan.modality) == (own.labels, own.dataset, own.modality)
    assert plan.plans_from == f"{folder.parent.name}/{folder.name}" and not plan.overrides
    assert plan.training.batch_size != own.training.batch_size  # it follows the patch


def test_the_user_goes_before_the_model(plan_for, model):
    folder = model(a=plan_for(**CT))
    said = {"overrides": {"resampling": "cubic", "normalisation.mean": [3]}, "plans_from": Pretrained.find(str(folder))}
    plan = plan_for(**said, **CT)
    assert plan.resampling == "cubic" and plan.reasons["resampling"].startswith("set by the user")
    assert plan.normalisation.mean == [3] and plan.normalisation.lower == [-60]


def test_what_the_user_sets_excludes_what_the_model_has(plan_for, model):
    fit = Pretrained.find(str(model(a=plan_for(largest={"lesion": 30.0}, **PHOTOGRAPH))))
    plan = plan_for(plans_from=fit, overrides={"spacing": [2, 2]}, largest={"lesion": 30.0}, **PHOTOGRAPH)
    assert plan.scaling == "spacing" and plan.spacing == (2, 2)
    volumes = Pretrained.find(str(model(b=plan_for(overrides={"spacing": (0.7, 0.7)}, **CT))))
    plan = plan_for(plans_from=volumes, overrides={"scaling": "fit"}, **CT)
    assert plan.scaling == "fit" and plan.spacing != (0.7, 0.7)


def test_pictures_that_fit_keep_their_own_spacing(plan_for, model):
    folder = model(a=plan_for(largest={"lesion": 30.0}, **PHOTOGRAPH))
    smaller = PHOTOGRAPH | {"shapes": (1, 200, 250)}
    plan = plan_for(largest={"lesion": 30.0}, plans_from=Pretrained.find(str(folder)), **smaller)
    assert plan.scaling == "fit" and plan.spacing[0] == pytest.approx(max(200 / 224, 250 / 288))
    assert "follows from scaling and patch_size" in plan.reasons["spacing"]


def test_the_head_of_the_same_modality_is_chosen(plan_for, model):
    folder = model(Dataset001_CT=plan_for(**CT), Dataset002_MR=plan_for(**MRI), Dataset003_Skin=plan_for(**PHOTOGRAPH))
    plan = plan_for(plans_from=Pretrained.find(str(folder)), **MRI)
    assert plan.normalisation.scheme == "z-score"
    for name in ("Dataset002_MR", "2", "MR", "MRI"):
        assert list(Pretrained.find(f"{folder}:{name}").plans) == ["Dataset002_MR"]


def test_heads_to_choose_from_are_listed(plan_for, model):
    folder = model(a=plan_for(**MRI), b=plan_for(**MRI))
    for text, message in (
        (str(folder), "several heads are of the modality MRI; found a (MRI), b (MRI); choose one with --plans-from"),
        (f"{folder}:c", "no head is called 'c'; found a (MRI), b (MRI); choose one with --plans-from MODEL:HEAD"),
    ):
        with pytest.raises(UserError) as error:
            plan_for(plans_from=Pretrained.find(text), **MRI)
        assert message in str(error.value)
    with pytest.raises(UserError, match="no head is of the modality CT"):
        plan_for(plans_from=Pretrained.find(str(folder)), **CT)


@pytest.mark.parametrize(
    ("theirs", "ours", "expected", "found"),
    [
        (MRI, CT, "MRI", "CT"),
        (MRI, MRI | {"channels": ("T1", "T2")}, "image channels: 1", "image channels: 2"),
        (MRI, {"modality": "MRI", "channels": ("T1",)}, "with a spacing in mm", "without a spacing in mm"),
    ],
)
def test_another_kind_of_images_is_refused(plan_for, model, theirs, ours, expected, found):
    pretrained = Pretrained.find(str(model(a=plan_for(**theirs))))
    with pytest.raises(UserError) as error:
        plan_for(plans_from=pretrained, **ours)
    text = str(error.value)
    assert pretrained.name in text and expected in text.partition("expected")[2] and found in text.partition("found")[2]


def test_a_plan_or_the_folder_of_the_folds_will_do(plan_for, model, tmp_path):
    folder = model(a=plan_for(**MRI))
    assert list(Pretrained.find(str(folder / "plans" / "a.json")).plans) == ["Dataset001_Test"]
    folder.rename(tmp_path / "fold_0")
    assert list(Pretrained.find(str(tmp_path)).plans) == ["a"]


def test_a_preprocessed_dataset_lends_its_plan(plan_for, tmp_path):
    write_json(tmp_path / "plan.json", plan_for(**MRI).model_dump(mode="json"))
    for place in (tmp_path, tmp_path / "plan.json"):
        assert list(Pretrained.find(str(place)).plans) == ["Dataset001_Test"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"channel_names": {"0": "T1"}, "labels": {}}, "found the entries channel_names, labels; give"),
        ({str(i): i for i in range(7)}, "found the entries 0, 1, 2, 3, 4 and 2 more; give"),
        ([1, 2], "found JSON without entries; give"),
    ],
)
def test_json_that_is_no_plan_is_said_to_be_none(tmp_path, value, found):
    file = tmp_path / "dataset.json"
    write_json(file, value)
    with pytest.raises(UserError) as error:
        Pretrained.find(str(file))
    assert str(error.value).startswith(f"{file}: is not a plan; expected the plan.json that dlsam_plan_and_preprocess")
    assert found in str(error.value) and "the folder of a trained model" in str(error.value)


def test_what_is_no_model_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match="is not a model folder"):
            Pretrained.find(str(folder))
    write_json(tmp_path / "model.json", {"heads": []})
    with pytest.raises(UserError, match="is not a valid model description: heads"):
        Pretrained.find(str(tmp_path))
