"""Training batches: which slices, cut how, augmented, in an order that depends on seed and step alone."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.preparation import stack
from delightsam_pipeline.preprocessing.store import Store, StoredCase
from delightsam_pipeline.training.augmentation import UNKNOWN, Pipeline, transforms
from delightsam_pipeline.training.workers import InOrder

_MARGIN = 0.25  # of a patch, on each side of a cut, so that rotation and scaling find pixels there
_TURNS = 4  # of each head, on average, in a round of steps where they are not all equal


@dataclass(frozen=True)
class Source:
    """The training cases of one head, and those of them that hold any foreground."""

    plan: Plan
    cases: tuple[StoredCase, ...]
    filled: tuple[StoredCase, ...]

    @staticmethod
    def of(store: Store, names: Sequence[str]) -> Source:
        """The cases of these names. Raises UserError when one is not in the store."""
        missing = sorted(set(names) - set(store.cases))
        if missing:
            fix = "run dlsam_plan_and_preprocess again"
            raise UserError("cases are not preprocessed", file=store.folder, found=", ".join(missing[:5]), fix=fix)
        return Source.of_cases(store.plan, [store.cases[name] for name in names])

    @staticmethod
    def of_cases(plan: Plan, cases: Sequence[StoredCase]) -> Source:
        """These cases."""
        return Source(plan, tuple(cases), tuple(case for case in cases if any(case.present)))


def turns(sources: Mapping[str, Source], balance: float = 0.0) -> list[str]:
    """The heads of one round of steps: each once, or in proportion to its number of cases to the power `balance`.

    A head comes up at least once in a round, which has four turns for each head, so that none gets less than a
    quarter of an equal share, and takes the next turn when it is furthest behind its own.
    """
    if not balance:
        return list(sources)
    weights = {head: len(source.cases) ** balance for head, source in sources.items()}
    found = dict.fromkeys(sources, 1)
    for _ in range((_TURNS - 1) * len(sources)):
        found[min(found, key=lambda head: (found[head] + 0.5) / weights[head])] += 1
    return [head for head, count in found.items() for _ in range(count)]


def head_of_step(heads: Sequence[str], seed: int, step: int) -> str:
    """Every one of `heads`, which may hold a head several times, once in each round, in an order drawn per round."""
    turn, place = divmod(step, len(heads))
    return heads[int(np.random.default_rng([seed, 1, turn]).permutation(len(heads))[place])]


@dataclass(frozen=True)
class Batches:
    """Makes the batch of a step, which depends on the seed and the step's number alone.

    heads : those of a round of steps. part : (r, n): of each batch only what process r of n takes, in order. period :
    after so many steps the same batches come again.
    """

    sources: Mapping[str, Source]
    pipelines: Mapping[str, Pipeline]
    heads: Sequence[str]
    seed: int
    period: int | None = None
    part: tuple[int, int] = (0, 1)

    def __call__(self, step: int) -> dict[str, Any]:
        """number, head, images [B, C_in, H, W] float32, labels [B, H, W] int16 (-1: unknown), annotated [B, K] bool:
        whether the labels show a target at all, and the names of the cases."""
        step = step % self.period if self.period else step
        head = head_of_step(self.heads, self.seed, step)
        source = self.sources[head]
        size, (rank, ranks) = source.plan.training.batch_size, self.part
        numbers = range(size * rank // ranks, size * (rank + 1) // ranks)
        shape = source.plan.patch_size
        images = np.empty((len(numbers), source.plan.in_channels, *shape), np.float32)
        labels = np.empty((len(numbers), *shape), np.int16)
        cases = []
        for place, number in enumerate(numbers):
            generator = np.random.default_rng([self.seed, 2, step, number])
            images[place], labels[place], case = sample(source, self.pipelines[head], generator)
            cases.append(case)
        annotated = [[k not in case.not_annotated for k in range(len(case.present))] for case in cases]
        made = {"images": images, "labels": labels, "annotated": np.array(annotated)}
        return {"number": step, "head": head, "cases": [case.name for case in cases]} | made


def make_batch(sources: Mapping[str, Source], pipelines: Mapping[str, Any], seed: int, step: int) -> dict[str, Any]:
    """The batch of a step (see Batches), with every head once in a round."""
    return Batches(sources, pipelines, list(sources), seed)(step)


def batches(
    sources: Mapping[str, Source],
    seed: int,
    first: int,
    workers: int,
    period: int | None = None,
    *,
    balance: float = 0.0,
    part: tuple[int, int] = (0, 1),
) -> InOrder:
    """An endless iterator of batches from step `first` (see Batches); its processes end with `close`.

    balance : 0 gives all heads the same number of steps, 1 one in proportion to their cases (see turns).
    """
    pipelines = {head: transforms(source.plan) for head, source in sources.items()}
    make = Batches(dict(sources), pipelines, turns(sources, balance), seed, period, part)
    return InOrder(make, first, workers, max(map(_bytes, sources.values())))


def _bytes(source: Source) -> int:
    """What the arrays of a whole batch take, and a little more."""
    plan = source.plan
    pixels = plan.patch_size[0] * plan.patch_size[1]
    return plan.training.batch_size * (pixels * (4 * plan.in_channels + 2) + len(plan.targets.classes)) + 1024


def sample(
    source: Source, pipeline: Pipeline, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, StoredCase]:
    """One training slice: image [C_in, H, W] float32, labels [H, W] int16, and the case it is from."""
    view = draw(source, generator)
    # batchgenerators draws from numpy's global generator and from Python's
    drawn = int(generator.integers(2**32))
    np.random.seed(drawn)
    random.seed(drawn)
    matrix = pipeline.spatial.draw()
    image, labels = pipeline.spatial.apply(*view.cut(source.plan, with_margin=matrix is not None), matrix)
    cut = pipeline.rest(data=image[None], seg=labels[None, None])
    return cut["data"][0], cut["seg"][0, 0], view.case


@dataclass(frozen=True)
class View:
    """A patch of slice z of a case that begins at `begins`, row and column of the canvas; labels [h, w] of the slice,
    mapped from disk."""

    case: StoredCase
    z: int
    begins: tuple[int, int]
    labels: np.ndarray

    def cut(self, plan: Plan, with_margin: bool) -> tuple[np.ndarray, np.ndarray]:
        """Image [C_in, h, w] float32 and labels [h, w] int16; a margin makes them larger than a patch, where the
        canvas is. What lies outside the image holds its edge, and labels UNKNOWN."""
        boxes = []
        for begin, patch, side in zip(self.begins, plan.patch_size, self.case.back.canvas, strict=True):
            # a patch that may lie anywhere needs more than the canvas, which is all there is where both are of a size
            margin = round(patch * _MARGIN) if with_margin and side > patch else 0
            boxes.append((begin - margin, begin + patch + margin))
        image = _cut(partial(_stacked, self.case.slices(), self.z, plan.input), self.case, boxes, None)
        labels = _cut(lambda window: self.labels[window].astype(np.int16), self.case, boxes, UNKNOWN)
        return image.astype(np.float32), labels


def draw(source: Source, generator: np.random.Generator) -> View:
    """Where to train on.

    A share of the draws, `foreground_share`, takes a case with any foreground, a class in it, a slice that holds the
    class, and cuts around a pixel of it. The others take any case and slice.
    """
    wants_foreground = bool(source.filled) and generator.random() < source.plan.training.foreground_share
    cases = source.filled if wants_foreground else source.cases
    case = cases[generator.integers(len(cases))]
    mask, centre = case.mask(), None
    if wants_foreground:
        classes = [k for k, slices in enumerate(case.present) if slices]
        k = classes[generator.integers(len(classes))]
        z = case.present[k][generator.integers(len(case.present[k]))]
        pixels = np.flatnonzero(np.isin(mask[z], source.plan.targets.ids[k]))
        centre = np.unravel_index(pixels[generator.integers(pixels.size)], mask.shape[1:])
    else:
        z = int(generator.integers(case.count))
    return View(case, z, _begins(source.plan, case, centre, generator), mask[z])


def _begins(plan: Plan, case: StoredCase, centre, generator: np.random.Generator) -> tuple[int, int]:
    """First row and column of a patch on the canvas: anywhere, or such that it has the pixel `centre` in the middle."""
    begins = []
    for axis, patch in enumerate(plan.patch_size):
        side, offset = case.back.canvas[axis], case.back.offset[axis]
        if centre is None:
            begins.append(int(generator.integers(side - patch + 1)))
        else:
            # anywhere that keeps the drawn pixel within the inner half of the patch
            wander = generator.integers(-patch // 4, patch // 4 + 1)
            begins.append(int(np.clip(centre[axis] + offset + wander - patch // 2, 0, side - patch)))
    return begins[0], begins[1]


def _stacked(slices: np.ndarray, z: int, input_: str, window: tuple[slice, slice]) -> np.ndarray:
    return stack(slices[:, :, *window], z, input_)


def _cut(read, case: StoredCase, boxes: list[tuple[int, int]], outside: int | None) -> np.ndarray:
    """The part of a slice in the boxes; what lies outside the image holds its edge, or the value `outside`."""
    windows, margins = [], []
    for (begin, end), scaled, offset in zip(boxes, case.back.scaled, case.back.offset, strict=True):
        first, last = max(begin, offset), min(end, offset + scaled)
        windows.append(slice(first - offset, last - offset))
        margins.append((first - begin, end - last))
    part = read(tuple(windows))
    if not np.any(margins):
        return part
    margins = [(0, 0)] * (part.ndim - 2) + margins
    if outside is None:
        return np.pad(part, margins, mode="edge")
    return np.pad(part, margins, constant_values=outside)
