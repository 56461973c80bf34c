"""Plans on disk: read back as they were, and refused by name when they are not what they should be."""

from __future__ import annotations

import json

import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import write_json
from delightsam_pipeline.plans.plan import DECISIONS, Plan, load_plan
from delightsam_pipeline.plans.planner import make_plan


@pytest.fixture
def plan(make_print, make_labels) -> Plan:
    return make_plan(make_print(largest={"a": 8.0, "b": 3.0}), make_labels("a", "b"), ".png")


@pytest.fixture
def refused(plan, tmp_path):
    """A function: the message when the plan is changed so in its file."""

    def load(change) -> str:
        value = plan.model_dump(mode="json")
        change(value)
        file = tmp_path / "plan.json"
        file.write_text(json.dumps(value))
        with pytest.raises(UserError) as error:
            load_plan(file)
        assert str(file) in str(error.value)
        return str(error.value)

    return load


def test_a_plan_comes_back_as_it_was(plan, tmp_path):
    written = plan.model_dump(mode="json")
    write_json(tmp_path / "plan.json", written)
    again = load_plan(tmp_path / "plan.json")
    assert again.model_dump(mode="json") == written
    assert again.targets == plan.targets and again.targets.classes == ("a", "b")
    assert again.preprocessing_digest() == plan.preprocessing_digest()


def test_a_wrong_entry_is_named(refused):
    assert "patch_size" in refused(lambda value: value.update(patch_size=[100, 128]))
    assert "spacing" in refused(lambda value: value.update(spacing=[0, 1]))
    assert "slicing_axis" in refused(lambda value: value.update(slicing_axis=3))
    assert "tile_overlap" in refused(lambda value: value.update(tile_overlap=1.0))
    assert "scaling" in refused(lambda value: value.update(scaling="stretch"))
    assert "normalisation.scheme" in refused(lambda value: value["normalisation"].update(scheme="magic"))
    assert "training.batch_size" in refused(lambda value: value["training"].update(batch_size="many"))


def put(place: str, new):
    """A change: `new` at this place, such as "training.epochs"."""
    *parents, last = place.split(".")

    def change(value) -> None:
        for name in parents:
            value = value[name]
        value[last] = new

    return change


OUT_OF_RANGE = [
    *((f"training.{name}", 0) for name in ("epochs", "steps_per_epoch", "batch_size", "learning_rate")),
    *((f"training.{name}", -0.1) for name in ("warmup", "foreground_share", "weight_decay", "patch_loss_weight")),
    ("training.epochs", -1),
    ("training.warmup", 1.1),
    ("training.foreground_share", 1.1),
    ("augmentation.rotation_degrees", -1),
    ("augmentation.scale", [0, 1]),
    ("augmentation.scale", [1.4, 0.7]),
    ("augmentation.scale", [0.7]),
    ("normalisation.full_scale", 0),
    ("modality_id", 10),
    ("channel_names", []),
    ("labels.classes", []),
    ("labels.ids", 5),
    ("labels.ids", [[1]]),
    ("labels.ids", [[1], []]),
    ("labels.ids", [[1], [3]]),
    ("labels.class_values", ["a", "b"]),
    ("labels.class_values", [1, 1.5]),
    ("labels.class_values", [1]),
    ("labels.class_values", [1, 3]),
    ("labels.class_values", [1, -2]),
    ("labels.class_values", [1, 65536]),
    ("labels.classes", ["a", "a"]),
    ("labels.declared", "all"),
    ("labels.ignore", 7),
    ("labels", 5),
]


@pytest.mark.parametrize(("place", "new"), OUT_OF_RANGE)
def test_an_entry_out_of_range_is_named(refused, place, new):
    message = refused(put(place, new))
    assert f"is not a valid plan: {place}" in message and "\n" not in message


def test_labels_without_entries_are_named(refused):
    assert "labels.classes: Field required" in refused(put("labels", {}))


@pytest.mark.parametrize(("kind", "needed"), [("rgb", 3), ("repeat", 1), ("neighbours", 1)])
def test_an_input_has_its_number_of_channels(refused, kind, needed):
    names = [f"channel {number}" for number in range(4 - needed)]
    message = refused(lambda value: value.update(input=kind, channel_names=names))
    assert f"plan: input: '{kind}' needs {needed} channel_names, there are {4 - needed}" in message


@pytest.mark.parametrize(
    ("numbers", "name", "count"),
    [({"mean": [1, 2], "std": [1, 1]}, "mean", 2), ({"mean": [1]}, "std", 0), ({"std": [1]}, "mean", 0)],
)
def test_photographs_have_all_numbers_or_none(refused, numbers, name, count):
    message = refused(put("normalisation", {"scheme": "photograph"} | numbers))
    assert f"plan: normalisation.{name}: needs a number for each of 1 channel_names, there are {count}" in message


@pytest.mark.parametrize("name", ["lower", "upper", "mean", "std"])
def test_ct_has_its_numbers_for_every_channel(refused, name):
    numbers = {"scheme": "ct", "lower": [-100], "upper": [200], "mean": [40], "std": [10]}
    message = refused(put("normalisation", numbers | {name: []}))
    assert f"plan: normalisation.{name}: needs a number for each of 1 channel_names, there are 0" in message
    assert "plan: normalisation.std" in refused(put("normalisation", numbers | {"std": [0]}))


def test_an_unknown_entry_is_named(refused):
    assert "colour_of_the_cat" in refused(lambda value: value.update(colour_of_the_cat="grey"))
    assert "training.patience" in refused(lambda value: value["training"].update(patience=5))


def test_a_missing_entry_is_named(refused):
    assert "modality_id" in refused(lambda value: value.pop("modality_id"))
    assert "augmentation.flips" in refused(lambda value: value["augmentation"].pop("flips"))


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_decision_without_a_reason_is_named(refused, decision):
    assert f"no reason given for {decision}" in refused(lambda value: value["reasons"].pop(decision))
    assert decision in refused(lambda value: value["reasons"].update({decision: ""}))


def test_another_version_is_refused(refused):
    assert "version" in refused(lambda value: value.update(version=2))


@pytest.mark.parametrize("text", ["[1, 2]", '"plan"', "null"])
def test_a_file_that_is_no_plan_at_all(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UserError, match=r"plan\.json: is not a valid plan"):
        load_plan(tmp_path / "plan.json")


def test_a_plan_with_not_a_number(tmp_path, plan):
    text = plan.model_dump_json().replace('"tile_overlap":0', '"tile_overlap":NaN,"x":0', 1)
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UserError, match="tile_overlap"):
        load_plan(tmp_path / "plan.json")


def test_the_digest_follows_what_the_store_depends_on(plan):
    digest = plan.preprocessing_digest()
    for change in ({"patch_size": (64, 96)}, {"spacing": (0.3, 0.3)}, {"slicing_axis": 1}, {"scaling": "spacing"}):
        assert plan.model_copy(update=change).preprocessing_digest() != digest
    for change in (
        {"training": plan.training.model_copy(update={"epochs": 3})},
        {"reasons": plan.reasons | {"spacing": "because"}},
        {"tile_overlap": 0.1},
        {"overrides": {"tile_overlap": 0.1}, "plans_from": "a model"},
    ):
        assert plan.model_copy(update=change).preprocessing_digest() == digest


def test_a_plan_from_before_overrides_is_read(plan, tmp_path):
    value = plan.model_dump(mode="json", exclude={"overrides", "plans_from"})
    write_json(tmp_path / "plan.json", value)
    assert load_plan(tmp_path / "plan.json") == plan
