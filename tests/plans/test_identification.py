"""What a dataset is: by what is given, its channel names, its DICOM tag, and what its pixels look like."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from delightsam_pipeline.data.formats import read_case
from delightsam_pipeline.data.image import Grid, Image
from delightsam_pipeline.data.phantoms import dermoscopy, endoscopy, fundus, microscopy, ultrasound, volumes, xray
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json
from delightsam_pipeline.plans.facts import PixelFacts
from delightsam_pipeline.plans.identification import dicom_modality_of, identify, measure
from delightsam_pipeline.plans.modalities import TABLE

NAMES = [row.name for row in TABLE]
DRAWN = {
    "dermoscopy": dermoscopy.draw,
    "X-ray": xray.draw,
    "ultrasound": ultrasound.draw,
    "fundus": fundus.draw,
    "microscopy": microscopy.draw,
    "endoscopy": endoscopy.draw,
    "CT": volumes.ct,
    "MRI": volumes.mri,
}
REAL = os.environ.get("DLSAM_TEST_DATA", "")


def as_image(array, spacing=None, modality="") -> Image:
    """A picture [H, W] or [H, W, 3], or with its spacing a volume [z, y, x]."""
    if spacing is not None:
        return Image(array[None], Grid(array.shape, spacing), modality=modality)
    channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return Image(channels[:, None], Grid.picture(*array.shape[:2]), modality=modality)


@pytest.fixture(scope="module")
def drawn():
    """A function: five images of a modality, drawn once."""
    made = {}

    def images(name: str) -> list[Image]:
        if name not in made:
            phantoms = [DRAWN[name](np.random.default_rng((7, number))) for number in range(5)]
            made[name] = [as_image(phantom.image, phantom.spacing) for phantom in phantoms]
        return made[name]

    return images


def told(images, channels=None) -> str:
    """The modality by pixels alone."""
    facts = [measure(image) for image in images]
    return identify(None, channels or ["image"] * facts[0].channels, None, facts).modality


def not_sure(images) -> str:
    """The message when the pixels do not tell."""
    with pytest.raises(UserError) as error:
        told(images)
    return str(error.value)


def changed(images, change) -> list[Image]:
    """The same images with other values."""
    return [Image(change(image.array), image.grid) for image in images]


@pytest.fixture(scope="module")
def plain():
    """Facts that tell nothing."""
    return [measure(as_image(np.tile(np.arange(64, dtype=np.uint8), (64, 1))))] * 5


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *zip(NAMES, NAMES, strict=True),
        ("colonoscopy", "endoscopy"),
        ("XRAY", "X-ray"),
        ("x ray", "X-ray"),
        ("mr", "MRI"),
        ("US", "ultrasound"),
        ("Histology", "microscopy"),
    ],
)
def test_given_by_name_or_alias(given, name, plain):
    evidence = identify(given, ["T1"], "CT", plain)  # what is given goes before all else
    assert (evidence.modality, evidence.confidence) == (name, 1.0)
    assert given in evidence.reason


def test_a_modality_of_ones_own_keeps_its_name(plain):
    evidence = identify("Thermography", ["T1"], None, plain)
    assert evidence.modality == "Thermography" and "your own" in evidence.reason


@pytest.mark.parametrize(
    ("channels", "name"),
    [
        (["CT"], "CT"),
        (["T1", "T2", "FLAIR"], "MRI"),
        (["t1w"], "MRI"),
        (["PET"], "PET"),
        (["ultrasound"], "ultrasound"),
    ],
)
def test_by_channel_names(channels, name, plain):
    evidence = identify(None, channels, "US", plain)
    assert evidence.modality == name and 0.5 < evidence.confidence < 1
    assert all(channel in evidence.reason for channel in channels)


@pytest.mark.parametrize(("tag", "name"), [("MR", "MRI"), ("PT", "PET"), ("OPT", "OCT"), ("DX", "X-ray")])
def test_by_the_dicom_tag(tag, name):
    grey = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    facts = [measure(as_image(grey, modality=tag))] * 2
    assert dicom_modality_of(facts) == tag
    evidence = identify(None, ["image"], dicom_modality_of(facts), facts)
    assert evidence.modality == name and tag in evidence.reason


def test_dicom_tags_that_do_not_tell(plain):
    grey = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    mixed = [measure(as_image(grey, modality=tag)) for tag in ("CT", "PT")]
    assert dicom_modality_of(mixed) is None and dicom_modality_of(plain) is None
    with pytest.raises(UserError, match="not sure"):
        identify(None, ["image"], "OT", plain)


@pytest.mark.parametrize("name", DRAWN)
def test_told_by_its_pixels(name, drawn):
    evidence = identify(None, ["image"] * len(drawn(name)[0].array), None, [measure(i) for i in drawn(name)])
    assert evidence.modality == name
    assert 0.5 <= evidence.confidence < 1 and "of 5 images look like" in evidence.reason


def test_mixed_looks_of_one_modality_are_both_named(drawn):
    facts = [measure(image) for image in drawn("microscopy")]
    facts += [measure(as_image(microscopy.draw(np.random.default_rng((8, n))).image)) for n in range(4)]
    reason = identify(None, ["R", "G", "B"], None, facts).reason
    assert "stained" in reason and "fluorescence" in reason


def test_mixed_modalities_are_not_told(drawn):
    text = not_sure(drawn("endoscopy")[:4] + drawn("fundus")[:3])
    assert "looks most like endoscopy in 4 of 7 images" in text and "a fundus photograph in 3 of 7 images" in text


def test_the_message_says_what_it_looks_like_and_what_is_against(drawn):
    text = not_sure(changed(drawn("fundus"), lambda a: a[:, :, 60:130, 60:130]))
    assert all(name in text for name in [*NAMES, "--modality", "dataset.json", "please set"])
    assert "looks like none of them clearly, most like" in text and "then like" in text
    assert "in 0 of" not in text
    assert "for it: " in text and "against it: not " in text


def test_two_images_are_too_few_but_for_air_at_1000(drawn):
    assert "2 of 2 images" in not_sure(drawn("endoscopy")[:2])
    assert told(drawn("CT")[:1]) == "CT"


@pytest.mark.parametrize(
    "change",
    [
        lambda a: (a - a.mean()) / a.std(),
        lambda a: (a - a.min()) / np.ptp(a),
        lambda a: (255.0 * (a - a.min()) / np.ptp(a)).astype(np.uint8),
        lambda a: (a > a.mean()).astype(np.uint8),
    ],
    ids=["z-scored", "0..1", "8 bit", "a mask"],
)
@pytest.mark.parametrize("name", ["CT", "MRI"])
def test_volumes_without_their_own_scale_are_not_told(name, change, drawn):
    not_sure(changed(drawn(name), lambda a: change(a.astype(np.float32))))


@pytest.mark.parametrize(
    "change",
    [
        lambda a: np.clip(a + 1024, 0, 4095).astype(np.int16),
        lambda a: np.clip(a, -160, 240),
        lambda a: np.where(a < -990, -2000, a),
        lambda a: a.astype(np.float32) + 0.25,
    ],
    ids=["1024 added", "cut to a window", "-2000 outside", "fractions"],
)
def test_ct_in_other_forms(change, drawn):
    assert told(changed(drawn("CT"), change)) == "CT"


def test_ct_from_zero_on_another_scale_in_each_case_is_not_taken_for_mri(drawn):
    not_sure(changed(drawn("CT"), lambda a: (a + 1024.0) * (0.5 + a.std() / 500 % 1)))


def test_a_stack_without_spacing_is_no_ct(drawn):
    stacks = [Image(i.array, Grid(i.grid.shape, (1.0, 1.0, 1.0), physical=False)) for i in drawn("CT")]
    assert "a kind that is not told" in not_sure(stacks)


@pytest.mark.parametrize(("low", "high"), [(-160, 240), (-1350, 150), (-1000, 1000)])
def test_ct_slices_as_pictures_are_not_told(low, high, drawn):
    def picture(image: Image) -> Image:
        plane = ndimage.zoom(np.clip((image.array[0, 10] - float(low)) / (high - low), 0, 1), 3, order=1)
        return as_image(np.rint(255 * plane.clip(0, 1)).astype(np.uint8))

    not_sure([picture(image) for image in drawn("CT")])


@pytest.mark.parametrize("name", ["dermoscopy", "endoscopy", "fundus"])
def test_without_their_colours_photographs_are_not_told(name, drawn):
    not_sure(changed(drawn(name), lambda a: a.mean(axis=0, keepdims=True).astype(np.uint8)))


@pytest.mark.parametrize("colours", [1, 3])
def test_textures_are_not_told(colours):
    def picture(seed: int) -> Image:
        noise = np.random.default_rng(seed).normal(size=(colours, 200, 240))
        cloud = sum(size * ndimage.gaussian_filter(noise, (0, size, size)) for size in (1, 3, 9, 27))
        return as_image(np.moveaxis(128 + 40 * cloud / cloud.std(), 0, -1).clip(0, 255).astype(np.uint8).squeeze())

    not_sure([picture(seed) for seed in range(5)])


def test_colour_doppler_is_ultrasound(drawn):
    def with_flow(array: np.ndarray) -> np.ndarray:
        colour = np.repeat(array, 3, axis=0)
        height, width = array.shape[2:]
        colour[:, :, height // 3 : height // 2, width // 3 : width // 2] = np.reshape([220, 60, 20], (3, 1, 1, 1))
        return colour

    assert told(changed(drawn("ultrasound"), with_flow)) == "ultrasound"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((1, 1, 40, 40), np.uint8),
        np.full((3, 1, 64, 50), 255, np.uint8),
        np.zeros((1, 1, 1, 1), np.float32),
        np.arange(8, dtype=np.int16).reshape(1, 2, 2, 2) - 4,
        np.zeros((1, 12, 20, 20), np.float32),
        np.full((1, 1, 30, 30), -7.5, np.float32),
        np.arange(4096, dtype=np.uint16).reshape(2, 1, 32, 64),
        np.eye(600, 20, dtype=np.uint8)[None, None],
    ],
)
@pytest.mark.filterwarnings("error")
def test_odd_images_are_measured_and_not_told(array):
    image = Image(array, Grid(array.shape[1:], (1.0, 1.0, 1.0), physical=array.shape[1] > 1))
    assert PixelFacts.model_validate_json(measure(image).model_dump_json()) == measure(image)
    not_sure([image] * 5)


def test_where_a_file_lies_changes_nothing(drawn):
    image = drawn("X-ray")[0]
    assert measure(Image(image.array, image.grid, source=Path("MRI/ct_brain_0000.png"))) == measure(image)


@pytest.mark.skipif(not REAL, reason="DLSAM_TEST_DATA names no folder")
@pytest.mark.parametrize("folder", sorted(Path(REAL).glob("Dataset*")) if REAL else [], ids=lambda path: path.name)
def test_real_datasets_from_five_images(folder):
    files = sorted((folder / "imagesTr").iterdir())
    images = [read_case([files[number]]) for number in np.linspace(0, len(files) - 1, 5).astype(int)]
    assert told(images) == read_json(folder / "dataset.json")["modality"]
