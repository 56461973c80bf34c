"""Training batches: which slices, cut how, augmented, in an order that depends on seed and step alone."""

from __future__ import annotations

import ctypes
import multiprocessing
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from threading import Thread
from typing import Any

import numpy as np
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.preparation import stack
from delightsam_pipeline.preprocessing.store import Store, StoredCase
from delightsam_pipeline.training.augmentation import UNKNOWN, transforms

_MARGIN = 0.25  # of a patch, on each side of a cut, so that rotation and scaling find pixels there


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


def head_of_step(heads: Sequence[str], seed: int, step: int) -> str:
    """Every head once in each round of steps, in an order drawn per round."""
    turn, place = divmod(step, len(heads))
    return heads[int(np.random.default_rng([seed, 1, turn]).permutation(len(heads))[place])]


def make_batch(sources: Mapping[str, Source], pipelines: Mapping[str, Any], seed: int, step: int) -> dict[str, Any]:
    """The batch of a step: its number, head, images [B, C_in, H, W] float32, labels [B, H, W] int16 (-1: unknown), and
    annotated [B, K] bool: whether the labels show a target at all."""
    head = head_of_step(list(sources), seed, step)
    source = sources[head]
    images, labels, annotated = [], [], []
    for number in range(source.plan.training.batch_size):
        generator = np.random.default_rng([seed, 2, step, number])
        image, label, case = draw(source, generator)
        # batchgenerators draws from numpy's global generator and from Python's
        drawn = int(generator.integers(2**32))
        np.random.seed(drawn)
        random.seed(drawn)
        cut = pipelines[head](data=image[None], seg=label[None, None].astype(np.float32))
        images.append(cut["data"][0])
        labels.append(cut["seg"][0, 0])
        annotated.append([k not in case.not_annotated for k in range(len(case.present))])
    images, labels = np.stack(images).astype(np.float32), np.stack(labels).astype(np.int16)
    return {"number": step, "head": head, "images": images, "labels": labels, "annotated": np.array(annotated)}


def draw(source: Source, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, StoredCase]:
    """One slice, cut to somewhat more than a patch: image [C_in, h, w] float32, labels [h, w] int16, and its case.

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
    boxes = _boxes(source.plan, case, centre, generator)
    image = _cut(partial(_stacked, case.slices(), z, source.plan.input), case, boxes, None)
    return image, _cut(lambda window: mask[z][window].astype(np.int16), case, boxes, UNKNOWN), case


def _stacked(slices: np.ndarray, z: int, input_: str, window: tuple[slice, slice]) -> np.ndarray:
    return stack(slices[:, :, *window], z, input_).astype(np.float32)


def _boxes(plan: Plan, case: StoredCase, centre, generator: np.random.Generator) -> list[tuple[int, int]]:
    """Begin and end of the cut along rows and columns, in pixels of the canvas; it may reach beyond the canvas."""
    boxes = []
    for axis, patch in enumerate(plan.patch_size):
        side, offset = case.back.canvas[axis], case.back.offset[axis]
        # the augmentation cuts a patch from the middle: margins are added to a patch that may lie anywhere
        margin = round(patch * _MARGIN) if side > patch else 0
        if centre is None:
            begin = int(generator.integers(side - patch + 1))
        else:
            # anywhere that keeps the drawn pixel within the inner half of the patch
            wander = generator.integers(-patch // 4, patch // 4 + 1)
            begin = int(np.clip(centre[axis] + offset + wander - patch // 2, 0, side - patch))
        boxes.append((begin - margin, begin + patch + margin))
    return boxes


def _cut(read, case: StoredCase, boxes: list[tuple[int, int]], outside: int | None) -> np.ndarray:
    """The part of a slice in the boxes; what lies outside the image holds its edge, or the value `outside`."""
    windows, margins = [], []
    for (begin, end), scaled, offset in zip(boxes, case.back.scaled, case.back.offset, strict=True):
        first, last = max(begin, offset), min(end, offset + scaled)
        windows.append(slice(first - offset, last - offset))
        margins.append((first - begin, end - last))
    part = read(tuple(windows))
    margins = [(0, 0)] * (part.ndim - 2) + margins
    if outside is None:
        return np.pad(part, margins, mode="edge")
    return np.pad(part, margins, constant_values=outside)


class _Steps(SlimDataLoaderBase):
    """batchgenerators' loader over step numbers; worker t of n makes the steps t, t + n, ..."""

    def __init__(
        self, sources: Mapping[str, Source], seed: int, first: int, workers: int, period: int | None = None
    ) -> None:
        super().__init__(None, 0, max(1, workers))
        self.sources, self.seed, self.period = dict(sources), seed, period
        self.pipelines = {head: transforms(source.plan) for head, source in sources.items()}
        self.next_step = first
        self.set_thread_id(0)

    def set_thread_id(self, thread_id: int) -> None:
        super().set_thread_id(thread_id)
        self.next_step += thread_id
        if multiprocessing.parent_process() is not None:
            _belong_to_parent()

    def generate_train_batch(self) -> dict[str, Any]:
        step = self.next_step
        self.next_step += self.number_of_threads_in_multithreaded
        return make_batch(self.sources, self.pipelines, self.seed, step % self.period if self.period else step)


def batches(sources: Mapping[str, Source], seed: int, first: int, workers: int, period: int | None = None):
    """An endless iterator of batches from step `first`; the same whatever the number of worker processes (0: none).

    period : after so many steps the same batches come again. It raises RuntimeError when a worker process has died.
    """
    steps = _Steps(sources, seed, first, workers, period)
    if workers == 0:
        return SingleThreadedAugmenter(steps, None)
    loader = MultiThreadedAugmenter(steps, None, workers, num_cached_per_queue=2, wait_time=0.005)
    loader._start()
    Thread(target=_watch, args=(loader.abort_event, loader._processes, loader._queues), daemon=True).start()
    return loader


def _belong_to_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, let SIGTERM end it, and die when the parent was killed (Linux)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def _watch(abort, processes, queues) -> None:
    """When a worker has died, end the others and their pipes.

    Else batchgenerators would wait for ever for the rest of the batch that the worker was writing.
    """
    wait([process.sentinel for process in processes])
    if abort.is_set():
        return
    abort.set()
    for process in processes:
        process.join(1.0)
        process.kill()
    for queue in queues:
        queue._writer.close()
