"""Post-processing is chosen where it helps and left alone where it does not, and judged on other cases."""

from __future__ import annotations

import numpy as np
import pytest

from delightsam_pipeline.evaluation.choice import (
    HeldOut,
    candidates,
    choose,
    choose_rules,
    compared,
    parts_of,
    rules_by_others,
    rules_that_hold,
)
from delightsam_pipeline.evaluation.postprocessing import Rule

SIDE = 40


def case(*true, specks=(), missed=0, ignore=None):
    """Parts of a picture with true squares (row, column, side), predicted but for `missed`, and false 2 x 2 specks."""
    reference, prediction = np.zeros((2, 1, SIDE, SIDE), np.uint8)
    for number, (y, x, side) in enumerate(true):
        reference[0, y : y + side, x : x + side] = 1
        if number >= missed:
            prediction[0, y : y + side, x : x + side] = 1
    for y, x in specks:
        prediction[0, y : y + 2, x : x + 2] = 1
    if ignore is not None:
        reference[0, ignore] = 9
    return parts_of(prediction, reference, (1,), 9, 1.0)


def names(cases):
    return [f"case{number}" for number in range(len(cases))]


def test_parts():
    found = case((4, 4, 10), (20, 20, 3), specks=[(30, 30)], missed=1, ignore=slice(31, None))
    assert found.sizes.tolist() == [9, 4] and found.hits.tolist() == [9, 0] and found.counted.tolist() == [9, 2]
    assert sorted(found.true_sizes.tolist()) == [9, 100] and found.n_true == 109
    assert found.dice() == pytest.approx(2 * 9 / (11 + 109))
    assert found.dice(Rule(operation="keep_largest")) == pytest.approx(2 * 9 / (9 + 109))
    assert case().dice() == 1 and case(specks=[(0, 0)]).dice() == 0
    assert case(specks=[(0, 0)]).dice(Rule(operation="remove_smaller", size=5)) == 1


@pytest.mark.parametrize("count", [3, 12])
def test_specks_far_from_one_object_are_removed(count):
    cases = [case((4, 4, 10 + n % 3), specks=[(30, 30), (35, 2)]) for n in range(count)]
    rule = choose(cases, names(cases))
    # the gentlest rule that does it
    assert rule.operation == "remove_smaller" and 4 < rule.size < 100
    assert rule.evidence.n_better == count and rule.evidence.with_rules == 1 > rule.evidence.without_rules
    assert (rule.evidence.interval is None) == (count < 10)


def test_the_largest_part_is_kept_where_specks_are_as_large_as_small_objects():
    cases = [case((4, 4, side), specks=[(30, 30)]) for side in range(2, 14)]
    assert choose(cases, names(cases)).operation == "keep_largest"


def test_several_true_objects_are_left_alone():
    cases = [case((4, 4, 8), (20, 20, 2), (30, 4, 3)) for _ in range(12)]
    assert choose(cases, names(cases)) is None
    assert Rule(operation="keep_largest") not in candidates(cases)


def test_the_largest_part_is_not_tried_where_one_case_has_two():
    """It would raise the mean, and lose the second object whenever there is one."""
    cases = [case((4, 4, 8), specks=[(30, 30)]) for _ in range(30)] + [case((4, 4, 8), (20, 20, 7))]
    assert Rule(operation="keep_largest") not in candidates(cases)
    rule = choose(cases, names(cases))
    assert rule.operation == "remove_smaller" and rule.size <= 49


@pytest.mark.parametrize(
    "cases",
    [
        [case((4, 4, 10))] * 12,  # nothing to remove
        [case((4, 4, 10), specks=[(30, 30)])] * 2 + [case((4, 4, 10))] * 3,  # two cases are no evidence
        [case((4, 4, 10), specks=[(30, 30)])] * 8 + [case((4, 4, 10), (20, 20, 2))],  # one loses a part
        [case((2, 2, 34), specks=[(38, 38)])] * 3 + [case((2, 2, 34))] * 9,  # under a thousandth
        [case(specks=[(30, 30)])] * 12,  # no true part tells what is small
        [],
    ],
)
def test_no_rule(cases):
    assert choose(cases, names(cases)) is None


def test_empty_images_that_become_clean_count():
    cases = [case((4, 4, 10))] * 6 + [case(specks=[(30, 30)])] * 6
    rule = choose(cases, names(cases))
    assert rule.operation == "remove_smaller" and rule.evidence.with_rules == 1
    assert rule.evidence.without_rules == 0.5


def test_harm_in_some_cases_shows_in_the_interval():
    good, bad = [case((4, 4, 6), specks=[(30, 30), (35, 2)])] * 30, [case((4, 4, 2), (20, 20, 2))] * 2
    assert choose(good, names(good)) is not None
    rule = next(rule for rule in candidates(good + bad) if rule.size == 36)
    parts = good + bad
    evidence = compared([p.dice() for p in parts], [p.dice(rule) for p in parts], names(parts))
    assert evidence.gain > 0.01 and evidence.interval[0] < 0
    assert choose(parts, names(parts)) is None


def held_out(parts, fold=0, group=None, name=None):
    return HeldOut(name or f"{fold}-{group}", fold, group or name, {"lump": parts})


def test_each_fold_is_judged_by_what_the_others_choose():
    """Specks only in fold 2: the others cannot know of them, and fold 2's rule is for the others."""
    clean, dirty = case((4, 4, 10)), case((4, 4, 10), specks=[(30, 30)])
    cases = [held_out(dirty if fold == 2 else clean, fold, name=f"{fold}{n}") for fold in range(3) for n in range(4)]
    by_others = rules_by_others(cases, ["lump"])
    assert not any(rules for name, rules in by_others.items() if name[0] == "2")
    assert all(set(rules) == {"lump"} for name, rules in by_others.items() if name[0] != "2")
    assert set(choose_rules(cases, ["lump"])) == {"lump"}


def test_a_single_fold_is_judged_in_fifths_of_its_groups():
    dirty = case((4, 4, 10), specks=[(30, 30)])
    cases = [held_out(dirty, 3, group=f"p{n // 2}", name=f"c{n}") for n in range(6)]
    by_others = rules_by_others(cases, ["lump"])
    assert all(rules["lump"].evidence.n_groups == 2 for rules in by_others.values())
    assert rules_by_others(cases[:2], ["lump"]) is None


def test_a_class_that_was_not_annotated_in_a_case_is_left_out_of_it():
    dirty = case((4, 4, 10), specks=[(30, 30)])
    cases = [held_out(dirty, name=f"c{n}") for n in range(4)] + [HeldOut("none", 0, "none", {})]
    assert choose_rules(cases, ["lump"])["lump"].evidence.n_cases == 4


def test_a_rule_that_fails_on_other_cases_is_dropped_and_so_is_one_that_harms_a_region_within():
    better, worse = compared([0.5], [0.6], ["a"]), compared([0.5], [0.4], ["a"])
    rule = Rule(operation="keep_largest")
    rules = {"whole": rule, "core": rule, "other": rule}
    ids = {"whole": (1, 2), "core": (2,), "other": (3,), "plain": (4,)}
    same = compared([0.5], [0.5], ["a"])
    held = {"whole": better, "core": better, "other": better, "plain": worse}
    assert rules_that_hold(rules, held, ids) == rules
    assert set(rules_that_hold(rules, held | {"core": worse}, ids)) == {"other"}
    assert set(rules_that_hold(rules, held | {"other": worse}, ids)) == {"whole", "core"}
    assert set(rules_that_hold(rules, held | {"other": same}, ids)) == {"whole", "core"}
