"""Plans of the authors' checkpoints: true to what their weights were trained to be fed."""

from __future__ import annotations

import numpy as np
import pytest

from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.files import write_json
from delightsam_pipeline.model.release import MODALITIES
from delightsam_pipeline.plans.modalities import TABLE
from delightsam_pipeline.plans.plan import DECISIONS, load_plan
from delightsam_pipeline.plans.release import RELEASE_MODALITIES, release_plan
from delightsam_pipeline.preprocessing.preparation import Preparation, place, stack

MEAN = np.array([123.675, 116.28, 103.53])


def test_the_modalities_are_the_networks_and_the_tables():
    assert MODALITIES == RELEASE_MODALITIES == tuple(row.name for row in TABLE[:6])


@pytest.mark.parametrize("modality", RELEASE_MODALITIES)
def test_a_plan_for_each_modality(modality, tmp_path):
    plan = release_plan(modality)
    assert (plan.modality, plan.modality_id) == (modality, RELEASE_MODALITIES.index(modality))
    assert (plan.input, plan.scaling, plan.patch_size, plan.physical) == ("rgb", "fit", (1024, 1024), False)
    assert len(plan.targets.classes) == 1 and plan.targets.class_values == (1,) and not plan.targets.has_regions
    assert set(plan.reasons) == set(DECISIONS)
    write_json(tmp_path / "plan.json", plan.model_dump(mode="json"))
    assert load_plan(tmp_path / "plan.json") == plan


def test_epochs_are_as_long_as_the_authors():
    steps = {name: release_plan(name).training.steps_per_epoch for name in RELEASE_MODALITIES}
    assert steps == dict(zip(RELEASE_MODALITIES, (648, 140, 32, 4, 134, 122), strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_fed_as_the_authors_scale_it_whether_grey_or_coloured(channels):
    colours = np.array([12, 120, 240], np.uint8)[:channels]
    array = np.broadcast_to(colours.reshape(-1, 1, 1, 1), (channels, 1, 40, 20))
    slices, back = Preparation(release_plan("ultrasound")).image(Image(array, Grid.picture(40, 20)))
    fed = place(stack(slices, 0, "rgb"), back)
    assert fed.shape == (3, 1024, 1024) and back.scaled == (1024, 512) and fed.dtype == np.float32
    expected = (colours - MEAN) / MEAN
    np.testing.assert_allclose(fed, np.broadcast_to(expected.reshape(3, 1, 1), fed.shape), atol=1e-5)
