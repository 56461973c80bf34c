"""One sample case: its planes with masks, and the same as the network sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from delightsam_pipeline.data.cases import Case
from delightsam_pipeline.data.formats import read_case
from delightsam_pipeline.data.image import Image
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.report import network
from delightsam_pipeline.preprocessing.report.markup import add, element
from delightsam_pipeline.preprocessing.report.pictures import (
    again,
    colour,
    contour,
    drawing,
    grey,
    letters,
    panel,
    pixels,
    reduced,
    reduced_mask,
    scale_bar,
)
from delightsam_pipeline.preprocessing.report.planes import (
    NAMES,
    Plane,
    Window,
    centre,
    photograph,
    planes,
    thinned,
    window,
)
from delightsam_pipeline.preprocessing.store import StoredCase

_WIDTH, _HEIGHT = 900, 300  # of the three planes of a volume together, on the page
_SIDE = 420  # of a single picture
_MOST_CHANNELS = 4
_MOST_DICE = 8
_LOW = 0.9  # a Dice after the round trip below it is printed bold


@dataclass(frozen=True)
class Sample:
    """What a case gives to the report.

    pictures : with its masks. network : as the network sees it. whole, foreground : values of each channel, thinned.
    """

    name: str
    pictures: Element
    network: Element
    whole: tuple[np.ndarray, ...]
    foreground: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class _View:
    """A plane on the page: names of its pixels and outlines, and its height and width there."""

    plane: Plane
    image: str
    masks: Mapping[int, str]
    size: tuple[float, float]


def show(
    case: Case, stored: StoredCase, plan: Plan, medians: Sequence[float | None], reasons: Sequence[str], number: int
) -> Sample:
    """Read a case and draw it; `number` makes names on the page unique, `medians` are the foreground's per channel."""
    image, reference = read_case(case.images), stored.labels()
    labels = plan.targets
    any_class = np.isin(reference, [v for ids in labels.ids for v in ids])
    found = planes(image.grid, centre(any_class), plan.file_ending)
    views, drawn, windows = _draw(image, reference, found, plan, medians, number)
    own = next((view for view in views if view.plane.axis == stored.back.axis), views[0])
    missing = [labels.classes[k] for k in stored.not_annotated]
    sentences = [f"{_capital('; '.join(reasons))}.", f"{_grid_words(image)}.", f"{windows}."]
    sentences += [f"Not annotated here: {', '.join(missing)}."] if missing else []
    return Sample(
        case.name,
        _case_article(case.name, " ".join(sentences), drawn),
        _network(stored, reference, own, plan, number),
        tuple(thinned(channel) for channel in image.array),
        tuple(thinned(channel[any_class]) for channel in image.array),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _grid_words(image: Image) -> str:
    shape = " x ".join(str(n) for n in image.grid.shape)
    if not image.grid.physical:
        return f"{image.grid.shape[1]} rows, {image.grid.shape[2]} columns"
    return f"{shape} voxels (z y x) of {' x '.join(f'{s:.3g}' for s in image.grid.spacing)} mm"


def _case_article(name: str, text: str, parts: Sequence[Element]) -> Element:
    return element("article", element("h3", name), element("p", text), *parts)


def _draw(
    image: Image, reference: np.ndarray, found: Sequence[Plane], plan: Plan, medians: Sequence, number: int
) -> tuple[list[_View], list[Element], str]:
    """The planes with outlines and without them, of a volume in two rows; and how values are shown, in words."""
    factor = _factor(found)
    views, with_masks, bare, used = [], [], [], {}
    colours = plan.input == "rgb" and len(image.array) == 3
    if not colours:
        used = {0: window(image.array[0], plan, medians[0])}
    for place, plane in enumerate(found):
        size = (plane.size[0] * factor, plane.size[1] * factor)
        picture = photograph(image, plan, plane) if colours else _grey(image, 0, plane, used[0])
        masks = _masks(reference, plane, plan)
        view = _View(plane, f"i{number}-{place}", {k: f"m{number}-{place}-{k}" for k in masks}, size)
        outlines = [contour(mask, size, view.masks[k]) for k, mask in masks.items()]
        strokes = [part for k, name in view.masks.items() for part in again(name, colour(k))]
        shown = drawing(size, _text(plane, image), pixels(reduced(picture), size, view.image), *outlines, *strokes)
        views.append(view)
        with_masks.append(_panel(shown, view, _caption(plane, image)))
        bare.append(_panel(drawing(size, f"{_text(plane, image)} without masks", *again(view.image)), view, None))
    channels = range(1, min(len(image.array), _MOST_CHANNELS)) if not colours else ()
    for channel in channels:
        used[channel] = window(image.array[channel], plan, medians[channel])
        bare.append(_other_channel(image, channel, views, used[channel], plan))
    text = "Colours as stored" if colours else _capital(used[0].words)
    parts = [[*with_masks, *bare]] if len(found) == 1 else [with_masks, bare]
    return views, [element("div", *part, class_="row") for part in parts], text


def _factor(found: Sequence[Plane]) -> float:
    """Pixels on the page per mm (or pixel): the same for all planes of a case."""
    if len(found) == 1:
        return _SIDE / max(found[0].size)
    return min(_WIDTH / sum(plane.size[1] for plane in found), _HEIGHT / max(plane.size[0] for plane in found))


def _grey(image: Image, channel: int, plane: Plane, shown: Window) -> np.ndarray:
    return grey(plane.cut(image.array[channel]), shown.low, shown.high)


def _masks(reference: np.ndarray, plane: Plane, plan: Plan) -> dict[int, np.ndarray]:
    """Target -> its mask on a plane, of those that are there."""
    slice_ = plane.cut(reference)
    masks = {k: np.isin(slice_, ids) for k, ids in enumerate(plan.targets.ids)}
    return {k: reduced_mask(mask) for k, mask in masks.items() if mask.any()}


def _text(plane: Plane, image: Image) -> str:
    return _caption(plane, image) or "the whole picture"


def _caption(plane: Plane, image: Image) -> str | None:
    count = image.grid.shape[plane.axis]
    if count == 1:
        return None
    return f"{NAMES[plane.axis]}, slice {plane.index + 1} of {count}"


def _panel(shown: Element, view: _View, caption: str | None) -> Element:
    """A picture with letters and, where there are mm, a bar; under it its caption."""
    if view.plane.letters:
        add(shown, letters(view.size, view.plane.letters))
        add(shown, scale_bar(view.size, view.plane.size[1]))
    return panel(shown, view.size, caption)


def _other_channel(image: Image, channel: int, views: Sequence[_View], shown: Window, plan: Plan) -> Element:
    view = next((v for v in views if v.plane.axis == plan.slicing_axis), views[0])
    picture = reduced(_grey(image, channel, view.plane, shown))
    name = plan.channel_names[channel]
    text = f"{_text(view.plane, image)}, channel {name}"
    return _panel(drawing(view.size, text, pixels(picture, view.size)), view, name)


def _network(stored: StoredCase, reference: np.ndarray, own: _View, plan: Plan, number: int) -> Element:
    """The input of the slice that `own` shows, and what is left of its masks after the mask grid, on the image."""
    z = own.plane.index
    left, dice = network.round_trip(stored, reference, z, plan.targets)
    returned = {k: reduced_mask(own.plane.turn(mask)) for k, mask in left.items() if mask.any()}
    outlines = [contour(mask, own.size, f"r{number}-{k}") for k, mask in returned.items()]
    under = [part for name in own.masks.values() for part in again(name, "#ffffff")]
    over = [element("use", href=f"#r{number}-{k}", stroke=colour(k)) for k in returned]
    text = "The image with its masks in white and what the mask grid leaves of them in colour"
    shown = drawing(own.size, text, *again(own.image), *outlines, *under, *over)
    last = _panel(shown, own, "white: mask; colour: after the mask grid")
    inputs, range_ = network.input_pictures(stored, z, plan)
    row = element("div", *inputs, last, class_="row")
    where = f"Slice {z + 1} of {stored.count}: " if stored.count > 1 else ""
    return _case_article(
        stored.name, _capital(f"{where}{network.words(stored.back, plan)}. {range_}"), [_dice(dice), row]
    )


def _dice(dice: Mapping[str, float]) -> Element:
    """The Dice of each class after the round trip, the worst first, and not of very many."""
    if not dice:
        return element("p", "No class to bring back.")
    line = element("p", "Dice of the mask with itself after the mask grid: ")
    ordered = sorted(dice.items(), key=lambda item: item[1])
    for place, (name, value) in enumerate(ordered[:_MOST_DICE]):
        shown = element("strong" if value < _LOW else "span", f"{name} {value:.3f}")
        add(line, [", " if place else None, shown])
    rest = ordered[_MOST_DICE:]
    add(line, [f", {len(rest)} more from {rest[0][1]:.3f} on." if rest else "."])
    return line
