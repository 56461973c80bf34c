"""How well modalities are told from pixels alone: real datasets, their variants and look-alikes, five at a time.

    python benchmarks/modality_confusion.py --data FOLDER --work WORK

FOLDER holds raw datasets with a `modality` in their dataset.json. From every kind of image sets of five are drawn at
random, 50 times, and identified with neither modality nor channel names. Writes results/modality-confusion.json and
prints its tables in Markdown. The facts of the images are all that is looked at; no name of a file is.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import RESULTS, commit
from modality_cases import (
    VARIANTS,
    as_image,
    as_picture,
    chest_slice,
    doppler,
    oct_scan,
    pet_volume,
    resized,
    slice_pictures,
    volume,
)

from delightsam_pipeline.data.examples import make_examples
from delightsam_pipeline.data.formats import read_case
from delightsam_pipeline.data.image import Image
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import read_json, write_json
from delightsam_pipeline.plans.facts import PixelFacts
from delightsam_pipeline.plans.identification import identify, measure
from delightsam_pipeline.plans.modalities import TABLE

SETS, SIZE, VARIED = 50, 5, 16
NAMES = [row.name for row in TABLE]
FACES = 100  # of scikit-image's pieces of faces and of what is none
PHOTOS = "astronaut brick camera chelsea coffee coins grass gravel hubble_deep_field moon page rocket text"


@dataclass(frozen=True)
class Kind:
    """Images of one kind. truth : their modality, empty for what is none of the table."""

    group: str
    name: str
    truth: str
    facts: list[PixelFacts]


def kind(group: str, name: str, truth: str, images: Iterable[Image]) -> Kind:
    return Kind(group, name, truth, [measure(image) for image in images])


def dataset(folder: Path) -> tuple[str, list[Image]]:
    """The modality of a raw dataset, and its images of one file each."""
    images = []
    for part in ("imagesTr", "imagesTs"):
        images += [read_case([file]) for file in sorted((folder / part).glob("*_0000.*"))]
    return read_json(folder / "dataset.json")["modality"], images


def some(images: list, count: int = VARIED) -> list:
    return [images[i] for i in np.unique(np.linspace(0, len(images) - 1, count).astype(int))]


def of_pictures(name: str, truth: str, images: list[Image]) -> Iterator[Kind]:
    """Variants of pictures. Without their colours, pictures of the coloured kinds count as any grey photograph."""
    for variant, change in VARIANTS.items():
        pictures = [np.ascontiguousarray(change(as_picture(image))) for image in some(images)]
        yield kind("variants", f"{name}, {variant}", truth, map(as_image, pictures))


def of_volumes(name: str, truth: str, images: list[Image]) -> Iterator[Kind]:
    """Volumes with other values, and their slices as pictures."""
    images = some(images, 12)
    arrays = [image.array[0].astype(np.float32) for image in images]

    def changed(what: str, change) -> Kind:
        made = [volume(change(array), image) for array, image in zip(arrays, images, strict=True)]
        return kind("volumes", f"{name}, {what}", truth, made)

    yield changed("z-scored", lambda a: (a - a.mean()) / a.std())
    yield changed("scaled to 0..1", lambda a: (a - a.min()) / np.ptp(a))
    yield changed("scaled to 0..255, 8 bit", lambda a: (255 * (a - a.min()) / np.ptp(a)).astype(np.uint8))
    yield changed("middle half", lambda a: a[tuple(slice(n // 4, n - n // 4) for n in a.shape)])
    yield changed("noise", lambda a: a + np.random.default_rng(0).normal(0, 0.05 * a.std(), a.shape))
    windows = {"its own range": None}
    if truth == "CT":
        windows |= {"a soft window": (-160, 240), "a lung window": (-1350, 150), "a bone window": (-500, 1300)}
        yield changed("1024 added", lambda a: np.clip(a + 1024, 0, 4095).astype(np.int16))
        yield changed(
            "from 0, another scale each", lambda a: ((a + 1000) * (0.3 + 2 * a.std() / 500 % 1)).astype(np.float32)
        )
        yield changed("32768 added", lambda a: (a + 32768).astype(np.uint16))
        yield changed("cut to -160..240", lambda a: np.clip(a, -160, 240).astype(np.int16))
        yield changed("soft window, 8 bit", lambda a: (255 * np.clip((a + 160) / 400, 0, 1)).astype(np.uint8))
    else:
        yield changed("less its mean", lambda a: a - a.mean())
        yield changed("clipped, 8 bit", lambda a: (255 * np.clip(a / np.percentile(a, 99), 0, 1)).astype(np.uint8))
    for window, ends in windows.items():
        pictures = []
        for image in images:
            low, high = ends or np.percentile(image.array, [0.5, 99.5])
            pictures += slice_pictures(image, float(low), float(high))
        yield kind("slices", f"{name}, slices as PNG, {window}", truth, map(as_image, pictures))


def photographs() -> list[Image]:
    """Pictures that come with scikit-image and scikit-learn and are no medical images, and pieces of them."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    pictures = [getattr(data, name)() for name in PHOTOS.split()] + list(load_sample_images().images)
    pictures += [array[..., :3] for array in (data.stereo_motorcycle()[0], data.cat())]
    pieces = []
    for array in pictures:
        height, width = (side // 2 for side in array.shape[:2])
        pieces += [array[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
    return [as_image(np.ascontiguousarray(array)) for array in pictures + pieces if np.ptp(array) > 0]


def faces() -> list[Image]:
    """Grey faces, which are alike left and right as chests are."""
    from skimage import data

    pieces = data.lfw_subset()[:FACES]
    return [as_image(resized((255 * (a - a.min()) / np.ptp(a)).astype(np.uint8), 8)) for a in pieces]


def masks(folder: Path) -> list[Image]:
    """Label maps taken for images."""
    images = [read_case([file]) for file in some(sorted((folder / "labelsTr").iterdir()))]
    return [Image(255 * (image.array > 0).astype(np.uint8), image.grid) for image in images]


def kinds(data: Path, work: Path) -> Iterator[Kind]:
    rng = np.random.default_rng(0)
    folders = sorted(data.glob("Dataset*"))
    for folder in folders:
        truth, images = dataset(folder)
        yield kind("real", folder.name, truth, images)
        yield kind("masks", f"{folder.name}, masks", "", masks(folder))
        make = of_volumes if images[0].grid.shape[0] > 1 else of_pictures
        yield from make(folder.name, truth, images)
        if truth == "ultrasound":
            pictures = [doppler(as_picture(image), rng) for image in images]
            yield kind("made", f"{folder.name}, with a colour box", truth, map(as_image, pictures))
    for folder in make_examples(work / "examples", train=8, test=0):
        truth, images = dataset(folder)
        yield kind("made", folder.name, truth, images)
    images = photographs()
    yield kind("photographs", "photographs", "", images)
    yield from of_pictures("photographs", "", images)
    yield kind("photographs", "faces, grey", "", faces())
    yield kind("made", "OCT", "OCT", (as_image(oct_scan(rng)) for _ in range(12)))
    for name, trunk in {"trunk": True, "head": False}.items():
        images = [pet_volume(rng, trunk) for _ in range(8)]
        yield kind("made", f"PET, {name}", "PET", images)
        pictures = [picture for image in images for picture in slice_pictures(image, 0, 10)]
        yield kind("slices", f"PET, {name}, slices as PNG", "PET", map(as_image, pictures))
    for name, ends in {"soft": (-160, 240), "lung": (-1350, 150), "wide": (-1000, 600)}.items():
        pictures = [chest_slice(rng, *ends) for _ in range(8)]
        yield kind("slices", f"chest CT, {name} window, as PNG", "CT", map(as_image, pictures))
        pieces = [picture[40:216, 30:226] for picture in pictures]
        yield kind("slices", f"chest CT, {name} window, cropped, as PNG", "CT", map(as_image, pieces))


def named(facts: list[PixelFacts]) -> str:
    channels = [f"channel {number}" for number in range(facts[0].channels)]
    try:
        return identify(None, channels, None, facts).modality
    except UserError:
        return "not sure"


def tried(kind: Kind) -> dict:
    """What 50 sets of five are named, and all images together."""
    rng = np.random.default_rng(0)
    size = min(SIZE, len(kind.facts))
    picks = [rng.choice(len(kind.facts), size, replace=False) for _ in range(SETS)]
    found = Counter(named([kind.facts[i] for i in pick]) for pick in picks)
    return {
        "group": kind.group,
        "kind": kind.name,
        "truth": kind.truth,
        "images": len(kind.facts),
        "sets": dict(found),
        "all": named(kind.facts),
    }


def confusion(rows: list[dict]) -> str:
    """Truth against what sets of five were named, in Markdown."""
    table = {truth: Counter() for truth in [*NAMES, ""]}
    for row in rows:
        table[row["truth"]].update(row["sets"])
    used = [name for name in NAMES if any(counts[name] for counts in table.values())]
    lines = ["| is | " + " | ".join([*used, "not sure"]) + " |", "|" + " --- |" * (len(used) + 2)]
    for truth, counts in table.items():
        if counts:
            cells = [str(counts[name] or "") for name in [*used, "not sure"]]
            lines.append(f"| {truth or 'none of these'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def counts(row: dict) -> Counter:
    """Of the sets: right, not sure, and wrong, where to stay unsure about what is none of the table is right."""
    sets, truth = row["sets"], row["truth"] or "not sure"
    unsure = sets.get("not sure", 0) if row["truth"] else 0
    right = sets.get(truth, 0)
    return Counter(right=right, unsure=unsure, wrong=sum(sets.values()) - right - unsure)


def details(rows: list[dict]) -> str:
    """Per kind, variants of all datasets and masks taken together, in Markdown."""
    together: dict[str, Counter] = {}
    for row in rows:
        dataset, _, variant = row["kind"].partition(", ")
        name = f"{variant} (all pictures)" if row["group"] == "variants" and dataset != "photographs" else row["kind"]
        together.setdefault("masks" if row["group"] == "masks" else name, Counter()).update(counts(row))
    lines = ["| images | right | not sure | wrong |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {c['right']} | {c['unsure']} | {c['wrong']} |" for name, c in together.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    rows = [tried(kind) for kind in kinds(options.data, options.work)]
    write_json(RESULTS / "modality-confusion.json", {"commit": commit(), "sets": SETS, "size": SIZE, "rows": rows})
    print(confusion(rows), details(rows), sep="\n\n")
    total = Counter()
    for row in rows:
        total.update(counts(row))
    print("\n" + json.dumps(total))


if __name__ == "__main__":
    main()
