"""The preprocessed store: what is saved comes back, and what is not whole is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json, write_json
from delightsam_pipeline.preprocessing.preparation import Preparation
from delightsam_pipeline.preprocessing.store import Store, StoredCase, is_complete, save_case

SHAPE = (4, 10, 12)


def labels_of(number: int) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 2:6, 3:8] = 1
    labels[3, 7, 9] = 2
    return np.roll(labels, number, axis=2)


def save(folder, plan, name: str, number: int, inputs: str = "abc"):
    image = Image(np.random.default_rng(number).normal(size=(1, *SHAPE)), Grid(SHAPE, (2.0, 1.0, 1.0)))
    preparation = Preparation(plan)
    slices, back = preparation.image(image)
    mask = preparation.labels(labels_of(number), back)
    save_case(folder / "cases", name, slices, mask, labels_of(number), back, inputs, plan)
    return slices, mask, back


@pytest.fixture
def plan(make_plan_for_tests):
    return make_plan_for_tests(spacing=(0.5, 0.5))


@pytest.fixture
def folder(tmp_path, plan):
    """A store of two cases, a and b.c."""
    folder = tmp_path / "Dataset001_Test"
    write_json(folder / "plan.json", plan.model_dump(mode="json"))
    write_json(folder / "splits_final.json", [{"train": ["a"], "val": ["b.c"]}])
    save(folder, plan, "a", 0)
    save(folder, plan, "b.c", 1)
    return folder


def test_cases_come_back(folder, plan):
    store = Store.load(folder)
    assert list(store.cases) == ["a", "b.c"] and store.splits == [{"train": ["a"], "val": ["b.c"]}]
    assert store.plan.preprocessing_digest() == plan.preprocessing_digest()
    for number, case in enumerate(store.cases.values()):
        slices, mask, back = save(folder, plan, "other", number)
        assert case.back == back and case.count == 4
        assert case.slices().dtype == np.float16 and case.slices().shape == (4, 1, 20, 24)
        np.testing.assert_allclose(case.slices(), slices, atol=2e-3)
        assert np.array_equal(case.mask(), mask) and case.mask().dtype == np.uint8
        assert np.array_equal(case.labels(), labels_of(number))
        assert case.present == ((1, 2), (3,))


def test_a_store_may_know_no_groups(folder):
    assert {case.group for case in Store.load(folder).cases.values()} == {None}
    write_json(folder / "groups.json", {"a": "patient"})
    assert [case.group for case in Store.load(folder).cases.values()] == ["patient", None]
    write_json(folder / "groups.json", ["patient"])
    with pytest.raises(UserError, match=r"groups\.json: is not a map from case to group"):
        Store.load(folder)


@pytest.mark.parametrize("value", [{"a": None}, {"a": 1}, {"a": "lesion"}, {"a": [["lesion"]]}, {"a": ["x"]}, ["a"]])
def test_what_was_annotated_is_a_list_of_classes(folder, value):
    write_json(folder / "annotated.json", value)
    with pytest.raises(UserError, match=r"annotated\.json: is not a map from case to classes of plan\.json"):
        Store.load(folder)


def test_present_knows_regions(tmp_path, make_plan_for_tests):
    labels = Labels(("whole", "core"), ((1, 2), (2,)), (1, 2), frozenset({0, 1, 2}))
    plan = make_plan_for_tests(labels=labels.to_dict())
    save(tmp_path, plan, "a", 0)
    assert read_json(tmp_path / "cases" / "a.json")["present"] == [[1, 2, 3], [3]]


def test_complete_means_whole_and_of_the_same_files_and_plan(folder, plan):
    cases = folder / "cases"
    assert is_complete(cases, "a", "abc", plan)
    assert not is_complete(cases, "a", "other files", plan)
    assert not is_complete(cases, "a", "abc", plan.model_copy(update={"spacing": (0.6, 0.6)}))
    assert is_complete(cases, "a", "abc", plan.model_copy(update={"tile_overlap": 0.5}))
    assert not is_complete(cases, "none", "abc", plan)
    (cases / "a.json").write_text('{"inputs": "ab')
    assert not is_complete(cases, "a", "abc", plan)


@pytest.mark.parametrize("file", ["a.json", "a.slices.npy", "a.mask.npy", "a.labels.npz"])
def test_a_case_that_lacks_a_file_is_not_whole(folder, plan, file):
    (folder / "cases" / file).unlink()
    assert not is_complete(folder / "cases", "a", "abc", plan)
    assert is_complete(folder / "cases", "b.c", "abc", plan)


def test_a_case_that_was_being_written_is_not_taken(folder):
    (folder / "cases" / "a.json").unlink()  # written last
    with pytest.raises(UserError, match="is not completely preprocessed; found 1 of 2 cases"):
        Store.load(folder)


def test_a_write_that_breaks_off_leaves_no_whole_case(folder, plan):
    _, mask, back = save(folder, plan, "a", 0)
    with pytest.raises(AttributeError):
        save_case(folder / "cases", "a", None, mask, labels_of(0), back, "abc", plan)
    assert not is_complete(folder / "cases", "a", "abc", plan)
    assert not [file for file in (folder / "cases").iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize(
    ("file", "what"), [("a.slices.npy", "slices"), ("a.mask.npy", "mask"), ("a.labels.npz", "labels")]
)
@pytest.mark.parametrize("keep", [0, 60, -20])
def test_damaged_arrays_are_named(folder, file, what, keep):
    path = folder / "cases" / file
    path.write_bytes(path.read_bytes()[:keep])
    case = Store.load(folder).cases["a"]
    with pytest.raises(UserError, match=rf"{file}: cannot be read.*preprocess"):
        getattr(case, what)()
    path.unlink()
    with pytest.raises(UserError, match=rf"{file}: cannot be read"):
        getattr(case, what)()


def test_pickles_are_not_loaded(folder):
    np.save(folder / "cases" / "a.slices.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.slices\.npy: cannot be read"):
        Store.load(folder).cases["a"].slices()


def test_another_plan(folder, plan):
    write_json(folder / "plan.json", plan.model_copy(update={"spacing": (0.7, 0.7)}).model_dump(mode="json"))
    with pytest.raises(UserError, match=r"a\.json: was made with another plan than plan\.json"):
        Store.load(folder)
    again = plan.model_copy(update={"training": plan.training.model_copy(update={"epochs": 7})})
    write_json(folder / "plan.json", again.model_dump(mode="json"))
    assert Store.load(folder).plan.training.epochs == 7


def test_a_folder_that_is_no_store(tmp_path, folder):
    with pytest.raises(UserError, match=r"no plan\.json.*dlsam_plan_and_preprocess -d Dataset002_None"):
        Store.load(tmp_path / "Dataset002_None")
    (folder / "splits_final.json").unlink()
    with pytest.raises(UserError, match=r"Dataset001_Test: is not completely preprocessed"):
        Store.load(folder)


def test_a_store_can_be_carried_elsewhere(folder, tmp_path):
    before = Store.load(folder).cases["a"].labels()
    folder.rename(tmp_path / "elsewhere")
    assert np.array_equal(Store.load(tmp_path / "elsewhere").cases["a"].labels(), before)


def test_cases_whose_names_end_alike_keep_their_own_files(tmp_path, make_plan_for_tests):
    """A case called x.mask must not write over the mask of a case called x."""
    plan, folder = make_plan_for_tests(), tmp_path / "cases"
    back = Preparation(plan).way_back(Grid.picture(64, 64))
    written = {}
    for number, name in enumerate(("x", "x.mask", "x_mask", "x.slices", "x.labels"), start=1):
        slices = np.full((1, 3, *back.scaled), number, np.float32)
        labels = np.full((1, 64, 64), number % 2, np.uint8)
        save_case(folder, name, slices, np.full((1, *back.scaled), number % 2, np.uint8), labels, back, "id", plan)
        written[name] = number
    for name, number in written.items():
        case = StoredCase(name, folder, back, ((),))
        assert (case.slices() == number).all() and (case.mask() == number % 2).all()
        assert (case.labels() == number % 2).all()
