"""Decisions of the user: read, checked, followed by the others, and told in the reasons."""

from __future__ import annotations

import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.overrides import check_overrides, parse_overrides
from delightsam_pipeline.plans.plan import Plan, table

PHOTOGRAPH = {"channels": ("R", "G", "B"), "modality": "dermoscopy"}
VOLUME = {"channels": ("T1",), "modality": "MRI", "shapes": (40, 128, 160), "spacings": (3.0, 1.0, 1.0)}


@pytest.fixture
def set_(plan_for):
    """set_("input=repeat", ..., **changes): the plan of a fingerprint with these decisions of the user."""
    return lambda *texts, **changes: plan_for(overrides=parse_overrides(texts), **changes)


READ = [
    ("patch_size=448x448", [448, 448]),
    ("patch_size=448,320", [448, 320]),
    ("spacing = 0.8 x 1", [0.8, 1.0]),
    ("slicing_axis=2", 2),
    ("input=repeat", "repeat"),
    ("scaling=spacing", "spacing"),
    ("resampling=cubic", "cubic"),
    ("tile_overlap=0.25", 0.25),
    ("modality=X-ray", "X-ray"),
    ("modality=1", "1"),
    ("training.batch_size=8", 8),
    ("training.learning_rate=1e-4", 1e-4),
    ("augmentation.flips=false,True", [False, True]),
    ("augmentation.scale=0.9x1.1", [0.9, 1.1]),
    ("normalisation.lower=-100", [-100.0]),
    ("normalisation.inside_nonzero=true", True),
]


@pytest.mark.parametrize(("text", "value"), READ)
def test_texts_are_read(text, value):
    name = text.partition("=")[0].strip()
    assert parse_overrides([text]) == {name: value}
    assert check_overrides({name: value}) == {name: value}  # as a plan holds them, too


def test_normalisation_is_its_scheme():
    assert parse_overrides(["normalisation=z-score"]) == {"normalisation.scheme": "z-score"}
    assert check_overrides({"patch_size": (64, 96)}) == {"patch_size": [64, 96]}


REFUSED = [
    ("patch", "DECISION=VALUE"),
    ("patch_size=", "sets nothing"),
    ("patchsize=64x64", "did you mean patch_size?"),
    ("batch_size=4", "did you mean training.batch_size?"),
    ("normalization=ct", "did you mean normalisation?"),
    ("labels=2", "decisions are modality, slicing_axis"),
    ("training=4", "'training' has several parts; set one of them: training.epochs"),
    ("patch_size=100x128", "patch_size=100x128 is not possible: input should be a multiple of 32"),
    ("patch_size=64", "patch_size=64 is not possible: it takes two values; write for instance patch_size=448x320"),
    ("patch_size=1e6x1e6", "patch_size=1e6x1e6 is not possible: input should be less than or equal to 8192"),
    ("spacing=-1x1", "spacing=-1x1 is not possible: input should be greater than 0"),
    ("spacing=0x1", "spacing=0x1 is not possible: input should be greater than 0"),
    ("spacing=1e400x1", "finite"),
    ("slicing_axis=3", "input should be 0, 1 or 2"),
    ("input=grey", "'rgb', 'repeat', 'neighbours' or 'projection'"),
    ("resampling=nearest", "'linear' or 'cubic'"),
    ("training.batch_size=0", "greater than or equal to 1"),
    ("training.batch_size=many", "valid integer"),
    ("tile_overlap=1", "less than or equal to 0.9"),
    ("augmentation.flips=perhaps,false", "valid boolean"),
    ("augmentation.flips=true", "flips=true is not possible: it takes two values; write for instance augmentation."),
    ("augmentation.flips=true,true,true", "it takes two values"),
    ("augmentation.scale=1x1e9", "less than or equal to 10; write for instance augmentation.scale=0.7x1.4"),
    ("normalisation.lower=low", "write one value for each image channel, for two of them normalisation.lower=50,60"),
    ("training.learning_rate=3", "less than or equal to 1"),
    ("training.learning_rate=-1", "greater than 0"),
    ("training.weight_decay=1e6", "less than or equal to 10"),
    ("training.patch_loss_weight=1e9", "less than or equal to 100"),
    ("training.epochs=1e9", "less than or equal to 1000000"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_what_is_wrong_is_one_line(text, expected):
    with pytest.raises(UserError) as error:
        parse_overrides([text])
    assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["spacing", "patch_size", "augmentation.flips", "augmentation.scale"])
def test_the_example_in_a_message_works(name):
    with pytest.raises(UserError) as error:
        parse_overrides([f"{name}=1"])
    assert list(parse_overrides([str(error.value).rpartition(" ")[2]])) == [name]


def test_what_contradicts_itself_is_refused(set_):
    with pytest.raises(UserError, match="input is set twice; found rgb and repeat"):
        parse_overrides(["input=rgb", "input=repeat"])
    with pytest.raises(UserError, match="same decision"):
        parse_overrides(["normalisation=ct", "normalisation.scheme=ct"])
    with pytest.raises(UserError, match=r"exclude each other.*set patch_size instead"):
        parse_overrides(["scaling=fit", "spacing=2x2"])
    with pytest.raises(UserError, match="512 x 512, set by the user, is larger than --max-size; expected at most 256"):
        set_("patch_size=512x512", max_size=256)


def test_what_does_not_fit_the_data_is_refused(set_):
    with pytest.raises(UserError, match=r"'rgb' needs 3 channel_names, there are 1; found set: input"):
        set_("input=rgb")
    with pytest.raises(UserError, match=r"normalisation.lower means nothing with the scheme 'percentile'"):
        set_("normalisation.lower=3")
    with pytest.raises(UserError, match=r"the first number is above the second; found set: augmentation.scale"):
        set_("augmentation.scale=1.2x0.8")


@pytest.mark.parametrize("changes", [{}, VOLUME | {"shapes": (1, 200, 200)}])
def test_pictures_and_single_slices_have_no_other_axis(set_, changes):
    with pytest.raises(UserError, match="slicing_axis=2 does not fit this dataset: its images are single slices"):
        set_("slicing_axis=2", **changes)


def test_clipping_from_above_to_below_is_refused(set_):
    with pytest.raises(UserError, match=r"normalisation.lower: is above normalisation.upper"):
        set_("normalisation.lower=5000", **VOLUME | {"channels": ("CT",), "modality": "CT"})


def test_no_overlap_is_shown_as_a_number(set_):
    row = next(line for line in table(set_("tile_overlap=0")).splitlines() if line.startswith("tile_overlap"))
    assert row.split()[1] == "0.0"


def test_a_modality_that_all_were_told_is_the_users_alone(set_, plan_for):
    given = plan_for().modality
    assert set_(f"modality={given}").reasons["modality"] == "set by the user"


SETTABLE = [
    ("slicing_axis=2", "slicing_axis", 2, VOLUME),
    ("input=repeat", "input", "repeat", VOLUME),
    ("scaling=spacing", "scaling", "spacing", {}),
    ("spacing=0.5x0.5", "spacing", (0.5, 0.5), VOLUME),
    ("patch_size=448x320", "patch_size", (448, 320), {}),
    ("tile_overlap=0.4", "tile_overlap", 0.4, {}),
    ("resampling=cubic", "resampling", "cubic", {}),
    ("modality=fundus", "modality", "fundus", {}),
]


@pytest.mark.parametrize(("text", "name", "value", "changes"), SETTABLE)
def test_a_decision_is_taken_and_told(plan_for, set_, text, name, value, changes):
    rules, plan = plan_for(**changes), set_(text, **changes)
    assert getattr(plan, name) == value != getattr(rules, name)
    assert plan.reasons[name].startswith("set by the user (the rules would have taken ")
    assert rules.reasons[name] in plan.reasons[name]
    assert list(plan.overrides) == [name] and not rules.overrides
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert plan.reasons[name] in table(plan)


def test_what_the_rules_would_do_anyway_says_so(set_):
    assert "set by the user (as the rules would: " in set_("input=repeat").reasons["input"]


def test_parts_are_set_and_the_others_stay(plan_for, set_):
    rules = plan_for()
    plan = set_("training.batch_size=3", "training.epochs=7", "augmentation.flips=false,false", "augmentation.colour=1")
    assert plan.training == rules.training.model_copy(update={"batch_size": 3, "epochs": 7})
    assert plan.augmentation == rules.augmentation.model_copy(update={"flips": (False, False), "colour": True})
    batch = rules.training.batch_size
    assert f"batch_size 3 set by the user (the rules would have taken {batch})" in plan.reasons["training"]
    assert "3 images of" in plan.reasons["training"]
    assert "flips false x false set by the user" in plan.reasons["augmentation"]


def test_a_batch_beyond_memory_is_told(set_, caplog):
    plan = set_("training.batch_size=900", shapes=(1, 256, 256))
    assert plan.training.batch_size == 900 and "which is more than the 8 GB given" in plan.reasons["training"]
    ruled, _, told = plan.reasons["training"].partition("; ")
    assert ruled.endswith("of the 8 GB given") and "more than" not in ruled
    assert told.startswith("batch_size 900 set by the user (the rules would have taken ")
    assert caplog.text.count("training.batch_size=900 is kept, but 900 images of") == 1
    caplog.clear()
    assert set_("training.batch_size=3").reasons["training"].endswith("of the 8 GB given") and not caplog.text


def test_a_batch_that_no_machine_holds_is_refused(set_):
    with pytest.raises(UserError, match=r"batch_size=1000000000 is not possible.*at most (\d+), what 1000 GB") as error:
        set_("training.batch_size=1e9")
    most = int(str(error.value).partition("at most ")[2].partition(",")[0])
    assert set_(f"training.batch_size={most}").training.batch_size == most
    with pytest.raises(UserError, match="not possible"):
        set_(f"training.batch_size={most + 2}")


@pytest.mark.parametrize(("spacing", "sides"), [("1e-6x1e-6", "1.28e.08 x 1.6e.08"), ("1e3x1e3", "0.128 x 0.16")])
def test_a_spacing_that_leaves_no_image_or_swells_it_is_refused(set_, spacing, sides):
    with pytest.raises(
        UserError, match=rf"set by the user, makes a typical image {sides} pixels; expected .* of 1 x 1"
    ):
        set_(f"spacing={spacing}", **VOLUME)


def test_a_scheme_brings_its_numbers(set_):
    plan = set_("normalisation=ct", **VOLUME)
    assert (plan.normalisation.scheme, plan.normalisation.lower, plan.normalisation.upper) == ("ct", [-60], [210])
    assert "the rules would have taken z-score" in plan.reasons["normalisation"]
    clipped = set_("normalisation=ct", "normalisation.lower=-100", "normalisation.upper=300", **VOLUME)
    assert (clipped.normalisation.lower, clipped.normalisation.mean) == ([-100], [50])
    assert "lower -100 set by the user" in clipped.reasons["normalisation"]


# what follows from it


def test_another_spacing_leads_to_another_patch_size(plan_for, set_):
    rules, finer = plan_for(**VOLUME), set_("spacing=0.5x0.5", **VOLUME)
    assert finer.patch_size == (256, 320) != rules.patch_size
    assert f"follows from spacing, else {rules.patch_size[0]} x {rules.patch_size[1]}" in finer.reasons["patch_size"]
    both = set_("spacing=0.5x0.5", "patch_size=128x128", **VOLUME)
    assert (both.patch_size, both.spacing, both.tile_overlap) == ((128, 128), (0.5, 0.5), 0.5)


def test_a_spacing_brings_pictures_to_one_scale(set_):
    plan = set_("spacing=2x2", shapes=(1, 300, 400), **PHOTOGRAPH)
    assert (plan.scaling, plan.spacing, plan.patch_size) == ("spacing", (2, 2), (160, 224))


def test_another_patch_size_leads_to_another_scale_where_pictures_fit(set_):
    plan = set_("patch_size=384x384", shapes=(1, 256, 256), largest={"lesion": 30.0})
    assert plan.scaling == "fit" and plan.spacing[0] == pytest.approx(256 / 384)
    assert "follows from patch_size" in plan.reasons["spacing"]


def test_a_smaller_patch_cuts_volumes_into_tiles(plan_for, set_):
    plan = set_("patch_size=64x64", **VOLUME)
    assert plan.spacing == plan_for(**VOLUME).spacing and plan.tile_overlap == 0.5


def test_pictures_that_must_stay_whole_are_shrunk(plan_for, set_):
    large = {"shapes": (1, 900, 1000), "largest": {"lesion": 4.0}}
    assert plan_for(**large).scaling == "spacing"
    plan = set_("scaling=fit", **large)
    assert plan.scaling == "fit" and 450 <= min(plan.patch_size) <= max(plan.patch_size) <= 576
    assert "masks can keep a Dice of 0." in plan.reasons["spacing"]


def test_another_axis_moves_layout_and_flips(set_):
    names = ("left kidney", "right kidney")
    largest = dict.fromkeys(names, 30.0)
    plan = set_("slicing_axis=2", labels=names, largest=largest, **VOLUME)
    assert plan.spacing[0] == pytest.approx(3 * plan.spacing[1]) and plan.augmentation.flips == (True, True)


def test_another_modality_brings_normalisation_and_augmentation(set_):
    plan = set_("modality=fundus")
    assert (plan.modality_id, plan.normalisation.scheme, plan.augmentation.rotation_degrees) == (3, "photograph", 180)
