"""Planning and preprocessing a raw dataset: done once, redone where something changed, and no more."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json, write_json
from delightsam_pipeline.preprocessing.run import plan_dataset, preprocess
from delightsam_pipeline.preprocessing.store import Store


@pytest.fixture
def volumes(tmp_path, make_dataset):
    """Three volumes of 4 to 6 slices."""
    cases = {}
    for number in range(3):
        image = np.random.default_rng(number).normal(100, 20, (4 + number, 30, 34)).astype(np.float32)
        label = np.zeros(image.shape, np.uint8)
        label[1:3, 5:20, 8 : 20 + number] = 1
        label[2, 22:26, 4:9] = 2
        cases[f"case_{number}"] = image, label
    return make_dataset(tmp_path / "raw" / "Dataset002_Volumes", cases, spacing=(4.0, 1.0, 1.0))


def both(dataset, folder: Path, **options) -> int:
    plan = plan_dataset(dataset, folder, **options)
    return preprocess(dataset, plan, folder, workers=options.get("workers"))


def stamps(folder: Path) -> dict[str, int]:
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name in before | after if before.get(name) != after.get(name)}


def rewrite(path: Path, array: np.ndarray) -> None:
    """Write a picture with a later time of change, however coarse the file system's clock is."""
    later = path.stat().st_mtime_ns + 10**9
    PIL.Image.fromarray(array).save(path)
    os.utime(path, ns=(later, later))


def test_a_dataset_becomes_a_store(raw, picture, tmp_path):
    assert both(raw, tmp_path / "out") == 6
    store = Store.load(tmp_path / "out")
    assert list(store.cases) == list("abcdef") and store.plan.modality == "ultrasound"
    assert len(store.splits) == 5
    for number, case in enumerate(store.cases.values()):
        assert np.array_equal(case.labels()[0], picture(number)[1])
        assert case.slices().shape == (1, 1, *case.back.scaled) and case.mask().shape == (1, *case.back.scaled)
        assert set(np.unique(case.mask())) == {0, 1, 2} and case.present == ((0,), (0,))


def test_groups_are_kept_in_the_store(raw, tmp_path):
    grouped = replace(raw, cases=tuple(replace(c, group="p" if c.name in "ab" else c.name) for c in raw.cases))
    both(grouped, tmp_path / "out")
    assert [case.group for case in Store.load(tmp_path / "out").cases.values()] == ["p", "p", "c", "d", "e", "f"]
    both(raw, tmp_path / "out")
    assert [case.group for case in Store.load(tmp_path / "out").cases.values()] == list("abcdef")


def test_volumes_become_a_store(volumes, tmp_path):
    assert both(volumes, tmp_path / "out") == 3
    store = Store.load(tmp_path / "out")
    assert [case.count for case in store.cases.values()] == [4, 5, 6]
    assert {case.present for case in store.cases.values()} == {((1, 2), (2,))}
    assert len(store.splits) == 3  # fewer than five: leave one out


def test_a_second_call_does_nothing(raw, tmp_path):
    both(raw, tmp_path / "out")
    before = stamps(tmp_path / "out")
    assert both(load_dataset(raw.folder), tmp_path / "out") == 0
    assert changed(before, stamps(tmp_path / "out")) == set()


def test_the_fingerprint_is_made_again_from_what_is_kept(raw, picture, tmp_path, monkeypatch):
    plan_dataset(raw, tmp_path / "out", "fundus")
    file = tmp_path / "out" / "fingerprint.json"
    whole = read_json(file)
    # no image can be read from here on
    monkeypatch.setattr("delightsam_pipeline.plans.looks.check_case", None)
    for content in ("{", "{}"):
        file.write_text(content)
        assert plan_dataset(raw, tmp_path / "out", "fundus").modality == "fundus"
        assert read_json(file) == whole
    assert plan_dataset(raw, tmp_path / "out", "OCT").modality == "OCT"
    assert read_json(file)["modality_evidence"] == "given as 'OCT'"
    rewrite(raw.cases[0].images[0], picture(9)[0])
    with pytest.raises(TypeError):
        plan_dataset(raw, tmp_path / "out", "OCT")


def test_a_modality_holds_only_while_it_is_given(raw, tmp_path):
    assert plan_dataset(raw, tmp_path / "out").modality == "ultrasound"
    assert plan_dataset(raw, tmp_path / "out", "fundus").modality == "fundus"
    plan = plan_dataset(raw, tmp_path / "out")
    assert plan.modality == "ultrasound" and "channel names" in plan.reasons["modality"]
    assert plan_dataset(raw, tmp_path / "out", "OCT").modality == "OCT"
    assert plan_dataset(raw, tmp_path / "out", "fundus").modality == "fundus"


def test_a_changed_label_redoes_exactly_its_case(raw, picture, tmp_path):
    out = tmp_path / "out"
    plan = plan_dataset(raw, out)
    preprocess(raw, plan, out)
    before = stamps(out)
    label = picture(2)[1]
    label[20:24, 20:24] = 2
    rewrite(raw.cases[2].label, label)
    assert preprocess(load_dataset(raw.folder), plan, out) == 1
    assert changed(before, stamps(out)) == {
        f"cases/c{end}" for end in (".json", ".slices.npy", ".mask.npy", ".labels.npz")
    }
    assert np.array_equal(Store.load(out).cases["c"].labels()[0], label)


def test_a_changed_plan_redoes_all(raw, tmp_path):
    plan = plan_dataset(raw, tmp_path / "out")
    assert preprocess(raw, plan, tmp_path / "out") == 6
    assert preprocess(raw, plan.model_copy(update={"patch_size": (96, 96)}), tmp_path / "out") == 6
    other = plan.model_copy(update={"reasons": plan.reasons | {"training": "for another reason"}})
    assert preprocess(raw, other, tmp_path / "out") == 6  # back to the first
    assert preprocess(raw, plan, tmp_path / "out") == 0


def test_a_case_that_is_gone_disappears(raw, tmp_path):
    plan = plan_dataset(raw, tmp_path / "out")
    preprocess(raw, plan, tmp_path / "out")
    raw.cases[4].label.unlink()
    raw.cases[4].images[0].unlink()
    dataset = load_dataset(raw.folder)
    assert preprocess(dataset, plan, tmp_path / "out") == 0
    both(dataset, tmp_path / "out")
    store = Store.load(tmp_path / "out")
    assert list(store.cases) == list("abcdf")
    assert sorted(name for split in store.splits for name in split["val"]) == list("abcdf")
    assert not list((tmp_path / "out" / "cases").glob("e*"))


def test_other_meanings_of_the_masks_values_redo_all(raw, tmp_path):
    file = raw.folder / "dataset.json"
    described = read_json(file)
    for values in ({"0": 0, "1": 1, "2": 2}, {"0": 0, "1": 2, "2": 1}):
        write_json(file, described | {"mask_values": values})
        assert both(load_dataset(raw.folder), tmp_path / "out") == 6
    mask = np.load(tmp_path / "out" / "cases" / "a.mask.npy")
    assert (mask == 2).sum() > (mask == 1).sum()


def test_what_a_killed_run_left_is_removed(raw, tmp_path):
    both(raw, tmp_path / "out")
    left = [tmp_path / "out" / "cases" / name for name in (".writing-x-a.slices.npy", "gone.slices.npy")]
    for file in left:
        file.write_bytes(b"half")
        os.utime(file, (0, 0))
    both(raw, tmp_path / "out")
    assert not [file for file in left if file.exists()]


def test_a_lost_array_is_made_again(raw, tmp_path):
    both(raw, tmp_path / "out")
    (tmp_path / "out" / "cases" / "b.slices.npy").unlink()
    assert both(raw, tmp_path / "out") == 1
    assert Store.load(tmp_path / "out").cases["b"].slices().any()


def test_splits_beside_the_data_are_honoured(raw, tmp_path):
    wanted = [{"train": list("abc"), "val": list("def")}, {"train": list("def"), "val": list("abc")}]
    write_json(raw.folder / "splits_final.json", wanted)
    both(raw, tmp_path / "out")
    assert Store.load(tmp_path / "out").splits == wanted
    write_json(raw.folder / "splits_final.json", [{"train": ["a", "x"], "val": list("bcdef")}])
    with pytest.raises(UserError, match=r"splits_final\.json.*not in the dataset; found x"):
        plan_dataset(raw, tmp_path / "out")


def test_splits_do_not_part_groups(tmp_path, make_dataset, picture):
    groups = {name: "patient 1" if name in "abc" else "patient 2" for name in "abcdef"}
    cases = {name: picture(number) for number, name in enumerate("abcdef")}
    dataset = make_dataset(tmp_path / "raw" / "Dataset003_Groups", cases, group=groups)
    plan_dataset(dataset, tmp_path / "out")
    splits = read_json(tmp_path / "out" / "splits_final.json")
    assert [split["val"] for split in splits] == [list("abc"), list("def")]


def test_a_single_case(tmp_path, make_dataset, picture):
    dataset = make_dataset(tmp_path / "raw" / "Dataset004_One", {"a": picture(0)})
    both(dataset, tmp_path / "out")
    assert list(Store.load(tmp_path / "out").cases) == ["a"]


def test_the_fingerprint_stands_there_for_tools_that_know_nnunet(raw, tmp_path):
    plan_dataset(raw, tmp_path / "out")
    theirs = read_json(tmp_path / "out" / "dataset_fingerprint.json")
    (numbers,) = theirs["foreground_intensity_properties_per_channel"].values()
    assert set(numbers) >= {"percentile_00_5", "percentile_99_5", "std"}
    assert theirs["spacings"] == [[1, 1, 1]] * 6


@pytest.mark.parametrize("which", ["raw", "volumes"])
def test_the_same_whatever_the_number_of_workers(which, tmp_path, request):
    dataset = request.getfixturevalue(which)
    for workers in (1, 3):
        both(dataset, tmp_path / str(workers), workers=workers)
    one, three = (Store.load(tmp_path / str(workers)) for workers in (1, 3))
    assert stamps(one.folder).keys() == stamps(three.folder).keys()
    for name in stamps(one.folder):
        if not name.endswith(".npz"):  # an archive may hold the time
            assert (one.folder / name).read_bytes() == (three.folder / name).read_bytes(), name
    for a, b in zip(one.cases.values(), three.cases.values(), strict=True):
        assert np.array_equal(a.labels(), b.labels())


def test_the_store_holds_all_that_training_needs(raw, tmp_path):
    both(raw, tmp_path / "out")
    shutil.rmtree(raw.folder)
    assert Store.load(tmp_path / "out").cases["a"].labels().any()
