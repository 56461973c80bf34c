"""What replaces batchgenerators' transforms agrees with them; what imitates an acquisition stays plausible."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from batchgenerators.augmentations.color_augmentations import augment_gamma
from batchgenerators.augmentations.noise_augmentations import augment_gaussian_blur, augment_gaussian_noise
from batchgenerators.augmentations.resample_augmentations import augment_linear_downsampling_scipy
from batchgenerators.transforms.spatial_transforms import SpatialTransform
from scipy.ndimage import gaussian_filter

from delightsam_pipeline.plans.plan import Augmentation, Normalisation
from delightsam_pipeline.training.augmentation import acquisition, classic, transforms
from delightsam_pipeline.training.augmentation.levels import Levels
from delightsam_pipeline.training.augmentation.spatial import UNKNOWN, Spatial, warp

PATCH, CLOSE = (64, 96), 1e-3  # of the images' deviation, which is 1


@pytest.fixture
def image():
    smooth = gaussian_filter(np.random.default_rng(0).standard_normal((3, 100, 140)), (0, 1, 1))
    return (smooth / smooth.std()).astype(np.float32)


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 3, (100, 140)).astype(np.int16)


def seeded(number, do):
    """What a call gives, and the numbers that come after those it has drawn."""
    np.random.seed(number)
    random.seed(number)
    return do(), (np.random.random(), random.random())


def test_the_fast_warp_is_the_spatial_transform(image, labels):
    """Samples that are rotated, scaled, both, or neither; margins of the slice come into view."""
    reference = SpatialTransform(
        PATCH,
        do_elastic_deform=False,
        angle_x=(-3, 3),
        scale=(0.7, 1.8),
        border_mode_data="nearest",
        order_data=1,
        border_cval_seg=UNKNOWN,
        random_crop=False,
        p_scale_per_sample=0.5,
        p_rot_per_sample=0.5,
    )
    own, kept, beyond = Spatial(PATCH, 3.0, (0.7, 1.8), 0.5), 0, 0
    for number in range(30):
        floats = labels[None, None].astype(np.float32)
        wanted, after = seeded(number, lambda f=floats: reference(data=image[None].copy(), seg=f))
        found, then = seeded(number, lambda: own(data=image[None].copy(), seg=labels[None, None]))
        assert then == after
        assert np.abs(found["data"] - wanted["data"]).max() < CLOSE
        assert np.mean(found["seg"] != wanted["seg"]) < 0.03  # a rim of up to half a pixel beyond the edge
        inside = (found["seg"] != UNKNOWN) & (wanted["seg"] != UNKNOWN)
        assert np.mean(found["seg"][inside] != wanted["seg"][inside]) < 1e-3
        kept += np.array_equal(found["data"], image[None, :, 18:82, 22:118])
        beyond += (found["seg"] == UNKNOWN).any()
    assert 3 < kept < 15 and beyond > 3


def test_a_batch_is_warped_as_its_samples(image, labels):
    matrices = np.stack([np.eye(2), 1.2 * np.array([[0.6, 0.8], [-0.8, 0.6]])])
    images, marks = torch.from_numpy(np.stack([image, 2 * image])), torch.from_numpy(np.stack([labels, labels]))
    whole = warp(images, marks, matrices, PATCH)
    for n in range(2):
        single = warp(images[n : n + 1], marks[n : n + 1], matrices[n : n + 1], PATCH)
        assert torch.equal(single[0][0], whole[0][n]) and torch.equal(single[1][0], whole[1][n])


REPLACED = {
    "blur": (
        lambda x: augment_gaussian_blur(x, (0.5, 1.0), per_channel=False),
        lambda x: classic.blur(x, (0.5, 1.0)),
    ),
    "low resolution": (
        lambda x: augment_linear_downsampling_scipy(x, (0.5, 1), False, order_downsample=0, order_upsample=1),
        lambda x: classic.lower_resolution(x, (0.5, 1)),
    ),
    "gamma": (
        lambda x: augment_gamma(x, (0.7, 1.5), False, retain_stats=True),
        lambda x: classic.gamma(x, (0.7, 1.5), False, False),
    ),
    "inverted gamma of colours": (
        lambda x: augment_gamma(x, (0.7, 1.5), True, per_channel=True, retain_stats=True),
        lambda x: classic.gamma(x, (0.7, 1.5), True, True),
    ),
}


@pytest.mark.parametrize("name", REPLACED)
def test_faster_changes_are_those_of_batchgenerators(image, name):
    reference, own = REPLACED[name]
    for number in range(10):
        wanted, after = seeded(number, lambda: reference(image.copy()))
        found, then = seeded(number, lambda: own(image.copy()))
        assert then == after and found.dtype == np.float32
        assert np.abs(found - wanted).max() < CLOSE
        assert np.abs(wanted - image).max() > 10 * CLOSE


def test_noise_is_as_strong_as_that_of_batchgenerators(image):
    for number in range(5):
        wanted = seeded(number, lambda: augment_gaussian_noise(image.copy(), (0, 0.5)))[0] - image
        found = seeded(number, lambda: classic.noise(image, 0.5))[0] - image
        assert found.std() == pytest.approx(wanted.std(), rel=0.03) and abs(found.mean()) < 0.02
        assert np.mean(np.abs(found) > 2 * found.std()) == pytest.approx(0.0455, abs=0.005)


def picture(ground, things):
    """RGB [3, 60, 80], 0 to 1, of a colour each."""
    values = np.empty((3, 60, 80), np.float32)
    values[:] = np.reshape(ground, (3, 1, 1))
    values[:, 20:30, 20:40] = np.reshape(things, (3, 1, 1))
    return values


def ratios(after, before):
    return after[:, 25, 25] / before[:, 25, 25]


def test_stain_changes_what_absorbs(seed=3):
    stained = picture((1, 1, 1), (0.6, 0.3, 0.7))
    changed, _ = seeded(seed, lambda: acquisition.stain(stained, 0.3))
    assert np.abs(changed[:, 0, 0] - 1).max() < 1e-5  # clear ground stays clear
    assert np.ptp(ratios(changed, stained)) > 0.01
    grey = picture((0.9,) * 3, (0.4,) * 3)
    changed, _ = seeded(seed, lambda: acquisition.stain(grey, 0.3))
    assert np.ptp(changed, axis=0).max() < 1e-3 and np.abs(changed - grey).max() > 0.01
    fluorescent = picture((0.02, 0.02, 0.05), (0.1, 0.1, 0.8))
    changed, _ = seeded(seed, lambda: acquisition.stain(fluorescent, 0.3))
    assert np.allclose(changed / fluorescent, ratios(changed, fluorescent)[0], rtol=1e-4)
    unchanged, _ = seeded(seed, lambda: acquisition.stain(stained, 0))
    assert np.allclose(unchanged, stained, atol=1e-4)


def test_shading_and_gain_are_smooth_factors():
    flat = np.full((3, 80, 60), 0.5, np.float32)
    for number in range(10):
        shaded, _ = seeded(number, lambda: acquisition.shading(flat, 0.3))
        factors = shaded / flat
        assert np.exp(-0.3) - 1e-5 <= factors.min() <= factors.max() <= np.exp(0.3) + 1e-5
        assert np.abs(np.diff(factors, axis=1)).max() < 0.05 and np.array_equal(factors[0], factors[2])
        gained, _ = seeded(number, lambda: acquisition.depth_gain(flat, 0.3))
        assert np.array_equal(gained[:, :, 0], gained[:, :, 59]) and np.abs(gained / flat - 1).max() < 0.36
    assert np.ptp(shaded, axis=2).max() > 0.01 and np.ptp(gained, axis=1).max() > 0.01


def test_speckle_grows_with_brightness_and_is_wider_than_deep():
    values = np.full((3, 128, 128), 0.1, np.float32)
    values[:, 64:] = 0.8
    changed, _ = seeded(1, lambda: acquisition.speckle(values, 0.4, one_grain=True))
    assert np.array_equal(changed[0], changed[2]) and changed.min() >= 0
    assert changed[0, 64:].std() == pytest.approx(8 * changed[0, :64].std(), rel=0.1)
    grain = changed[0] / values[0] - 1
    across, down = (np.mean(grain * np.roll(grain, 1, axis)) for axis in (1, 0))
    assert across > down > 0
    apart, _ = seeded(1, lambda: acquisition.speckle(values, 0.4, one_grain=False))
    assert not np.array_equal(apart[0], apart[2])


def test_changes_happen_between_black_and_white(make_plan_for_tests):
    """A gain of half leaves black black in every scheme, and z-scores know black by the darkest pixel in sight."""
    halved = lambda v: v * 0.5  # noqa: E731
    percentile = Levels.of(make_plan_for_tests(normalisation=Normalisation(scheme="percentile")))
    black, white = float(percentile.black.item()), float(percentile.white.item())
    image = np.linspace(black, white, 96, dtype=np.float32).reshape(1, 8, 12)
    changed = percentile.between(halved)(image)
    assert changed.min() == pytest.approx(black) and changed.max() == pytest.approx((black + white) / 2, abs=1e-5)
    tripled = percentile.between(lambda v: v * 3)(image)
    assert tripled.max() == pytest.approx(white)  # what is recorded has an end
    ct = Normalisation(scheme="ct", lower=[-200], upper=[300], mean=[50], std=[100])
    assert Levels.of(make_plan_for_tests(normalisation=ct)).black.item() == -2.5
    inside = Normalisation(scheme="z-score", inside_nonzero=True)
    scores = np.array([[[0, -2, 2, 4]]], np.float32)
    found = Levels.of(make_plan_for_tests(normalisation=inside)).between(halved)(scores)
    assert np.allclose(found, [[[0, -2, 0, 1]]], atol=1e-5)


@pytest.mark.parametrize("input_", ["rgb", "repeat", "neighbours", "projection"])
def test_every_change_can_be_switched_on_and_off(make_plan_for_tests, image, labels, input_):
    names = {"rgb": "RGB", "projection": "TFAD"}.get(input_, "T")
    colours = {"tint": 0.2, "stain": 0.2} if input_ == "rgb" else {}
    scheme = {"rgb": "photograph", "repeat": "percentile"}.get(input_, "z-score")
    entries = {"input": input_, "channel_names": list(names), "normalisation": Normalisation(scheme=scheme)}
    common = ("noise", "blur", "brightness", "contrast", "low_resolution", "gamma", "inverted_gamma")
    still = {"rotation_degrees": 0, "scale": (1, 1), "flips": (False, False), "colour": False}
    off = Augmentation(**still, **dict.fromkeys(common, 0))
    data = np.concatenate([image, image])[None, : 4 if input_ == "projection" else 3]

    def changed(augmentation):
        pipeline = transforms(make_plan_for_tests(augmentation=augmentation, **entries))
        pipeline = pickle.loads(pickle.dumps(pipeline))  # as where processes are not forked
        return seeded(5, lambda: pipeline.rest(data=data.copy(), seg=labels[None, None])["data"])[0]

    assert np.array_equal(changed(off), data)
    for name, value in {
        **dict.fromkeys(common, 1),
        "shading": 0.2,
        "depth_gain": 0.2,
        "speckle": 0.2,
        **colours,
    }.items():
        found = changed(off.model_copy(update={name: value, "own_share": 1}))
        assert found.shape == data.shape and found.dtype == np.float32 and np.isfinite(found).all()
        assert not np.array_equal(found, data), name
