"""How large the network sees things: as large as the objects need, and no larger."""

from __future__ import annotations

import pytest

from delightsam_pipeline.plans.plan import Plan

THIN, SOLID = {"lesion": 1.0}, {"lesion": 30.0}
VOLUME = {"channels": ("T1",), "modality": "MRI"}


def scale(plan: Plan, spacing: float = 1.0) -> float:
    """Input pixels per pixel of images of this spacing."""
    return spacing / plan.spacing[0]


def test_spacing_comes_from_the_median(plan_for):
    """Same extent in mm, so that only the spacing differs: one coarse case changes nothing."""
    usual = [(3.0, 1.0, 0.5), (3.0, 1.0, 0.5), (3.0, 1.0, 0.5)]
    odd = [*usual[:2], (3.0, 2.0, 1.0)]
    one, other = (
        plan_for(shapes=[(30, 256, 512), (30, 256, 512), last], spacings=spacings, **VOLUME)
        for last, spacings in (((30, 256, 512), usual), ((30, 128, 256), odd))
    )
    assert one.spacing == other.spacing and one.patch_size == other.patch_size
    assert one.scaling == "spacing" and one.spacing[0] == pytest.approx(2 * one.spacing[1])


def test_tiny_images_are_enlarged_as_far_as_their_objects_need(plan_for):
    def enlargement(largest: float) -> float:
        plan = plan_for(shapes=(35, 48, 40), largest={"lesion": largest}, **VOLUME)
        return scale(plan)

    solid, middle, thin = (enlargement(cell) for cell in (30.0, 2.0, 1.0))
    assert solid == pytest.approx(1, rel=0.15)  # what survives as it is, is left as it is
    assert middle == pytest.approx(2, rel=0.15)  # cells of 2 pixels are masks of stride 4 at twice the size
    assert middle < thin <= 5
    assert enlargement(0.1) <= 5  # what no enlargement saves is not enlarged for ever


def test_images_are_not_enlarged_beyond_need_in_pictures_either(plan_for):
    plan = plan_for(shapes=(1, 64, 64), largest=SOLID)
    assert plan.scaling == "fit" and max(plan.patch_size) <= 96
    thin = plan_for(shapes=(1, 64, 64), largest=THIN)
    assert min(thin.patch_size) >= 192


def test_the_hardest_class_decides(plan_for):
    both = plan_for(shapes=(35, 48, 40), largest={"organ": 20.0, "duct": 2.0}, labels=("organ", "duct"), **VOLUME)
    assert scale(both) == pytest.approx(2, rel=0.15) and "'duct'" in both.reasons["spacing"]


def test_large_pictures_of_thin_objects_are_tiled(plan_for):
    plan = plan_for(shapes=(1, 1200, 1600), largest=THIN)
    assert plan.scaling == "spacing" and max(plan.patch_size) < 1200
    assert scale(plan) >= 1
    assert 0.25 <= plan.tile_overlap < 1


def test_large_pictures_of_big_objects_are_seen_whole(plan_for):
    plan = plan_for(shapes=(1, 1200, 1600), largest=SOLID)
    assert plan.scaling == "fit" and max(plan.patch_size) < 800
    assert plan.patch_size[0] / plan.patch_size[1] == pytest.approx(1200 / 1600, rel=0.2)
    assert plan.spacing[0] == plan.spacing[1] > 1.5


def test_large_volumes_are_tiled_at_one_spacing(plan_for):
    plan = plan_for(shapes=(50, 1024, 1024), largest=THIN, **VOLUME)
    assert plan.scaling == "spacing" and max(plan.patch_size) < 1024
    assert scale(plan) >= 1


def test_pictures_of_very_different_sizes_with_thin_objects_are_tiled(plan_for):
    sizes = [(1, 200, 200), (1, 200, 200), (1, 200, 200), (1, 600, 600), (1, 600, 600)]
    assert plan_for(shapes=sizes, largest={"lesion": 4.0}).scaling == "spacing"
    assert plan_for(shapes=sizes, largest=SOLID).scaling == "fit"


@pytest.mark.parametrize("size", [(40, 224, 224), (40, 250, 180), (40, 320, 320), (40, 64, 400)])
def test_a_patch_holds_the_whole_slice_where_that_is_possible(plan_for, size):
    plan = plan_for(shapes=size, largest={"lesion": 4.0}, **VOLUME)
    for side, patch, spacing in zip(size[1:], plan.patch_size, plan.spacing, strict=True):
        pixels = side / spacing
        assert pixels <= patch * 1.01 and patch <= 1.15 * pixels + 32


# the multiple of 32


def test_detail_is_not_given_away_for_a_cheaper_size(plan_for):
    """281 columns become 288, and not 256, which would be a tenth less than the objects need."""
    plan = plan_for(shapes=(1, 225, 281), largest={"lesion": 4.0})
    assert plan.patch_size == (224, 288)
    for side in range(40, 500, 7):
        plan = plan_for(shapes=(1, side, side), largest={"lesion": 4.0})
        assert scale(plan) >= 0.92, f"{side} pixels are seen at {plan.patch_size}"


# a largest side


def test_what_bears_it_is_shrunk_to_the_largest_side(plan_for):
    for changes in ({}, VOLUME):
        plan = plan_for(shapes=(20 if changes else 1, 300, 400), largest={"lesion": 8.0}, max_size=256, **changes)
        assert plan.patch_size == (192, 256) and plan.tile_overlap == 0.25
        assert scale(plan) == pytest.approx(256 / 400)
        assert "shrunk to sides of 256 (--max-size), where 1.00 of 1.00 is left" in plan.reasons["spacing"]


def test_what_would_be_lost_is_tiled(plan_for):
    for changes in ({}, VOLUME):
        plan = plan_for(shapes=(20 if changes else 1, 300, 400), largest={"lesion": 4.0}, max_size=256, **changes)
        assert plan.scaling == "spacing" and max(plan.patch_size) <= 256 and plan.tile_overlap == 0.5
        assert scale(plan) == pytest.approx(1, rel=0.03)
        assert "which would leave a Dice of 0.42 of 0.97" in plan.reasons["spacing"]


def test_a_side_that_is_large_enough_changes_nothing(plan_for):
    size = {"shapes": (1, 300, 400), "largest": {"lesion": 4.0}}
    assert plan_for(max_size=416, **size) == plan_for(**size)
