"""The report of a dataset as a reader meets it: whole, valid, true to the data, and safe."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import re

import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.preprocessing.report.page import write_report
from delightsam_pipeline.preprocessing.run import plan_dataset, preprocess

HOSTILE = '<script>alert("1")</script>&amp;'
VOID = {"meta", "link", "img", "br", "input"}
SECTIONS = ["findings", "samples", "distributions", "plan", "network", "splits", "files"]


class Page(html.parser.HTMLParser):
    """A page's elements (name, attributes), and the text in each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert len(attributes) == len(dict(attributes))
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def report(dataset, folder, train="7", **options):
    plan = plan_dataset(dataset, folder, **options)
    preprocess(dataset, plan, folder)
    return write_report(dataset, folder, train)


def read(file) -> Page:
    return Page(file.read_text(encoding="utf-8"))


def pixels(uri: str) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def picture(lesion: tuple[slice, slice] | None, value=1, seed=0, size=(48, 64)):
    mask = np.zeros(size, np.uint8)
    if lesion is not None:
        mask[lesion] = value
    return np.random.default_rng(seed).integers(0, 60, size, np.uint8) + 120 * (mask > 0).astype(np.uint8), mask


def volume(seed=0, shape=(6, 20, 16)):
    """A lesion in front of a vessel, on the patient's left."""
    mask = np.zeros(shape, np.uint8)
    mask[1:5, 6:10, 8:13], mask[1:5, 10:14, 8:13] = 1, 2
    return np.random.default_rng(seed).integers(0, 40, shape).astype(np.float32), mask


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, make_dataset):
    """The report of pictures, with names that mean harm."""
    folder = tmp_path_factory.mktemp("pictures")
    boxes = [(slice(8, 8 + n), slice(10, 40)) for n in (4, 8, 12, 16, 24)]
    cases = {f"a<b>&{n}": picture(box, 1 + n % 2, seed=n) for n, box in enumerate(boxes)}
    cases["none"] = picture(None)
    labels = {"background": 0, HOSTILE: 1, "vessel": 2}
    dataset = make_dataset(folder / "Dataset007_<i>", cases, labels=labels)
    return report(dataset, folder / "out", modality="ultrasound")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory, make_dataset):
    folder = tmp_path_factory.mktemp("volumes")
    dataset = make_dataset(folder / "Dataset008_V", {f"v{n}": volume(n) for n in range(3)}, spacing=(3.0, 1.0, 1.0))
    return report(dataset, folder / "out")


@pytest.mark.parametrize("name", ["pictures", "volumes"])
def test_the_page_is_whole_and_needs_nothing_else(name, request):
    file = request.getfixturevalue(name)
    page, text = read(file), file.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    assert [part["id"] for part in page.all("section")] == SECTIONS
    assert not re.search(r"<script|javascript:|https?://|url\(|@import", text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for _, attributes in page.elements if "href" in attributes]
    files = [link for link in links if not link.startswith(("#", "data:image/"))]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert files and all((file.parent / link).exists() for link in files)
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert len(page.all("table")) == len(page.all("caption")) >= 2
    assert "not for clinical use" in page.words()


def test_names_from_files_are_text(pictures):
    page = read(pictures)
    assert HOSTILE in page.words()
    assert "a<b>&0" in page.words()
    assert not page.all("b") and not page.all("script") and not page.all("i")
    assert any(HOSTILE in svg["aria-label"] for svg in page.all("svg"))


def test_samples_span_the_dataset(pictures):
    words = read(pictures).words()
    for case, reason in [("a<b>&0", "smallest foreground"), ("a<b>&4", "largest foreground"), ("none", "o foreground")]:
        assert re.search(re.escape(case) + r" [^.]*" + reason, words)


def test_planes_are_in_true_proportions(volumes):
    """In true proportions, z being three times as long a step."""
    page = read(volumes)
    images = {image["id"]: image for image in page.all("image") if "id" in image}
    axial, coronal, sagittal = (images[f"i0-{place}"] for place in range(3))
    sizes = [[float(image[side]) for side in ("height", "width")] for image in (axial, coronal, sagittal)]
    ratio = sizes[0][0] / 20
    assert np.allclose(np.array(sizes) / ratio, [[20, 16], [18, 16], [18, 20]], atol=0.05)
    letters = [letter for letter in re.findall(r'class="letter [a-z]+">(\w)<', volumes.read_text())[:12]]
    assert letters == [*"ALPR", *"SLIR", *"SPIA"]
    assert pixels(axial["href"]).shape == (20, 16) and pixels(coronal["href"]).shape == (6, 16)


def test_the_head_is_on_top(tmp_path, make_dataset):
    image, mask = volume()
    mask[:] = 0
    mask[-1, 0, -1] = 1  # planes go through the left front near the head
    image[-2:, :3, -3:] = 1000
    dataset = make_dataset(tmp_path / "Dataset008_V", {"v": (image, mask)}, spacing=(3.0, 1.0, 1.0))
    page = read(report(dataset, tmp_path / "out"))
    images = {image["id"]: pixels(image["href"]) > 128 for image in page.all("image") if "id" in image}
    boxes = [[[int(p.min()), int(p.max())] for p in np.nonzero(images[f"i0-{n}"])] for n in range(3)]
    assert boxes == [[[0, 2], [13, 15]], [[0, 1], [13, 15]], [[0, 1], [0, 2]]]


def test_what_the_network_gets(volumes, pictures):
    words = read(volumes).words()
    assert "channel 1: slice 2" in words and "channel 2: slice 3" in words and "channel 3: slice 4" in words
    assert "three times the same channel" in read(pictures).words()
    assert re.search(r"Dice of the mask with itself after the mask grid: \w+ \d\.\d{3} ?, \w+ \d\.\d{3}", words)


def test_what_comes_back_lies_on_the_image(tmp_path, make_dataset):
    """Also where slices are cut upside down: coronal ones, of rows from the feet to the head."""
    mask = np.zeros((24, 6, 32), np.uint8)
    mask[12:20, 1:5, 4:20] = 1
    image = np.random.default_rng(0).integers(0, 40, mask.shape).astype(np.float32)
    dataset = make_dataset(tmp_path / "Dataset008_V", {"v": (image, mask)}, spacing=(1.0, 3.0, 1.0))
    file = report(dataset, tmp_path / "out")
    paths = {path["id"]: path["d"] for path in read(file).all("path") if "id" in path}
    boxes = [np.array(re.findall(r"M(\d+) (\d+)", paths[name]), int) for name in ("m0-1-0", "r0-0")]
    assert (boxes[0].min(axis=0) == (4, 4)).all() and (boxes[0].max(axis=0) == (20, 12)).all()
    for end in (np.min, np.max):
        assert np.abs(end(boxes[0], axis=0) - end(boxes[1], axis=0)).max() <= 1


def test_colour_is_one_picture(tmp_path, make_dataset):
    image, mask = picture((slice(8, 30), slice(10, 40)))
    colours = np.stack([image, image // 2, image // 4], axis=-1)
    channels = {"0": "R", "1": "G", "2": "B"}
    cases = {f"c{n}": (colours, mask) for n in range(2)}
    dataset = make_dataset(tmp_path / "Dataset009_C", cases, channel_names=channels)
    page = read(report(dataset, tmp_path / "out", modality="dermoscopy"))
    images = [pixels(image["href"]) for image in page.all("image")]
    assert (images[0] == colours).all()
    network = images[2]  # after the two cases: the first one's input, larger by padding or not at all
    assert np.abs(np.median(network, axis=(0, 1)) - np.median(colours, axis=(0, 1))).max() < 12
    assert "red, green and blue in one picture" in page.words()


def test_a_report_is_kept_until_something_changes(tmp_path, make_dataset):
    dataset = make_dataset(
        tmp_path / "Dataset007_P", {f"c{n}": picture((slice(4, 20), slice(4, 20))) for n in range(3)}
    )
    file = report(dataset, tmp_path / "out")
    first = file.stat().st_mtime_ns
    write_report(dataset, tmp_path / "out", "7")
    assert file.stat().st_mtime_ns == first
    splits = tmp_path / "out" / "splits_final.json"
    splits.write_text(json.dumps(json.loads(splits.read_text())[::-1]))
    write_report(dataset, tmp_path / "out", "7")
    assert file.stat().st_mtime_ns > first


def test_a_store_that_is_not_whole_is_refused(tmp_path, make_dataset):
    dataset = make_dataset(
        tmp_path / "Dataset007_P", {f"c{n}": picture((slice(4, 20), slice(4, 20))) for n in range(3)}
    )
    plan_dataset(dataset, tmp_path / "out")
    with pytest.raises(UserError, match="not completely preprocessed"):
        write_report(dataset, tmp_path / "out", "7")
    assert not (tmp_path / "out" / "report.html").exists()
