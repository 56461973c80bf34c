"""Milliseconds that a training sample takes of one core, by modality and size, and what loader processes share.

    python benchmarks/loader.py --work WORK
    python benchmarks/loader.py --work WORK --device cuda

Generated images, planned at a fixed size. For each: CPU time of reading, spatial augmentation, every other change
(with its share of the samples) and copying; the same with the modality's own changes at --own; batchgenerators'
transforms in the place of ours; samples a second through loader processes, the time that the training process spends
on each, and the memory that is each process's own. With --device: spatial augmentation of a batch there, too.
Results go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from batchgenerators.transforms.abstract_transforms import Compose
from batchgenerators.transforms.color_transforms import GammaTransform
from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
from batchgenerators.transforms.resample_transforms import SimulateLowResolutionTransform
from batchgenerators.transforms.spatial_transforms import SpatialTransform
from common import RESULTS, commit, hardware

from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.data.examples import make_examples
from delightsam_pipeline.plans.overrides import parse_overrides
from delightsam_pipeline.preprocessing.run import plan_dataset, preprocess
from delightsam_pipeline.preprocessing.store import Store
from delightsam_pipeline.training.augmentation import UNKNOWN, transforms
from delightsam_pipeline.training.augmentation.classic import Sometimes
from delightsam_pipeline.training.augmentation.spatial import warp
from delightsam_pipeline.training.loading import Source, batches, draw


@dataclass(frozen=True)
class Kind:
    """What is measured: a generated dataset at a size, and the changes that are its modality's own."""

    dataset: str
    size: str
    own: tuple[str, ...] = ()


KINDS = (
    Kind("Dataset902_ExampleMRI", "128x96", ("shading",)),
    Kind("Dataset908_ExampleEndoscopy", "224x288", ("shading", "tint")),
    Kind("Dataset901_ExampleCT", "448x448"),
    Kind("Dataset903_ExampleUltrasound", "448x448", ("speckle", "depth_gain")),
    Kind("Dataset907_ExampleMicroscopy", "448x448", ("stain",)),
    Kind("Dataset908_ExampleEndoscopy", "448x448", ("shading", "tint")),
)


def main() -> None:
    """Measure all kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--own", type=float, default=0.2)
    parser.add_argument("--device")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for kind in KINDS:
        rows.append(measure(kind, args))
        print(json.dumps(rows[-1]), flush=True)
    value = {"samples": args.samples, "commit": commit(), **hardware(), "rows": rows}
    name = f"loader-{args.device or f'cpu{os.cpu_count()}'}.json"
    (RESULTS / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def measure(kind: Kind, args: argparse.Namespace) -> dict:
    """One row."""
    source = source_of(kind, args.work)
    own = with_entries(source, dict.fromkeys(kind.own, args.own))
    split = split_ms(source, args.samples)
    row = {
        "modality": source.plan.modality,
        "size": kind.size,
        "input": source.plan.input,
        "ms": round(sum(split.values()), 2),
        "ms_with_own": round(sum(split_ms(own, args.samples).values()), 2),
        "ms_batchgenerators": round(reference_ms(source, args.samples), 2),
        "split": {name: round(value, 3) for name, value in split.items()},
        "each": each_ms(with_entries(own, {"flips": (True, True)})),
        **through_processes(source, args.workers, args.samples),
    }
    if args.device:
        row["spatial_ms_on_device"] = round(device_ms(source, args.device), 3)
    return row


def source_of(kind: Kind, work: Path) -> Source:
    """A preprocessed dataset of generated images at the kind's size."""
    (raw,) = make_examples(work / "raw", train=8, test=0, datasets=[kind.dataset])
    dataset, folder = load_dataset(raw), work / "preprocessed" / f"{kind.dataset}-{kind.size}"
    overrides = parse_overrides([f"patch_size={kind.size}", "scaling=fit", "augmentation.rotation_degrees=180"])
    plan = plan_dataset(dataset, folder, workers=1, overrides=overrides)
    preprocess(dataset, plan, folder, workers=1)
    store = Store.load(folder)
    return Source.of(store, list(store.cases))


def with_entries(source: Source, entries: dict) -> Source:
    """The source with other entries of its plan's augmentation."""
    augmentation = source.plan.augmentation.model_copy(update=entries)
    return replace(source, plan=source.plan.model_copy(update={"augmentation": augmentation}))


def split_ms(source: Source, samples: int) -> dict[str, float]:
    """Milliseconds of CPU time per sample, by what is done, in the order of loading.sample."""
    pipeline, spent = transforms(source.plan), defaultdict(float)

    def timed(name, do):
        begin = time.process_time()
        result = do()
        spent[name] += (time.process_time() - begin) * 1000 / samples
        return result

    place = np.empty((source.plan.in_channels, *source.plan.patch_size), np.float32)
    for number in range(samples):
        generator = np.random.default_rng(number)
        np.random.seed(number)
        random.seed(number)
        view = timed("choosing", lambda g=generator: draw(source, g))
        matrix = pipeline.spatial.draw()
        cut = timed("reading", lambda v=view, m=matrix: v.cut(source.plan, with_margin=m is not None))
        image, labels = timed("spatial", lambda c=cut, m=matrix: pipeline.spatial.apply(*c, m))
        data = {"data": image[None], "seg": labels[None, None]}
        for step in pipeline.rest.transforms:
            timed(name_of(step), lambda s=step, d=data: s(**d))
        timed("copying", lambda d=data: np.copyto(place, d["data"][0]))
    return dict(spent)


def name_of(step) -> str:
    """What a transform is called here."""
    while isinstance(step, Sometimes | partial):
        step = step.change if isinstance(step, Sometimes) else step.keywords.get("change", step.func)
    return getattr(step, "__name__", type(step).__name__)


def each_ms(source: Source, repeats: int = 10) -> dict[str, float]:
    """Milliseconds of CPU time of each change of one patch, when it is made."""
    pipeline, generator = transforms(source.plan), np.random.default_rng(0)
    image, labels = draw(source, generator).cut(source.plan, with_margin=True)
    turn = 1.1 * np.array([[0.8, 0.6], [-0.6, 0.8]])
    jobs = {"spatial": lambda: pipeline.spatial.apply(image, labels, turn)}
    patch, marks = (np.ascontiguousarray(part) for part in pipeline.spatial.apply(image, labels, turn))
    for step in pipeline.rest.transforms:
        if isinstance(step, Sometimes):
            step = replace(step, share=1.0)
        else:
            step.p_per_sample = 1.0
        jobs[name_of(step)] = functools.partial(step, data=patch[None].copy(), seg=marks[None, None].copy())
    return {name: round(cpu_ms(job, repeats), 2) for name, job in jobs.items()}


def cpu_ms(job, repeats: int) -> float:
    """Of one of several calls."""
    job()
    begin = time.process_time()
    for _ in range(repeats):
        job()
    return (time.process_time() - begin) * 1000 / repeats


def reference_ms(source: Source, samples: int) -> float:
    """The whole with batchgenerators' own transforms, every sample with its margin, as was done before."""
    chosen, pipeline = source.plan.augmentation, transforms(source.plan)
    angle, bent = np.deg2rad(chosen.rotation_degrees), {"per_channel": chosen.colour, "retain_stats": True}
    spatial = SpatialTransform(
        source.plan.patch_size,
        do_elastic_deform=False,
        angle_x=(-angle, angle),
        scale=chosen.scale,
        border_mode_data="nearest",
        order_data=1,
        border_cval_seg=UNKNOWN,
        random_crop=False,
        p_scale_per_sample=pipeline.spatial.share,
        p_rot_per_sample=pipeline.spatial.share,
    )
    steps = [
        spatial,
        GaussianNoiseTransform((0, 0.1), p_per_sample=chosen.noise),
        GaussianBlurTransform((0.5, 1.0), different_sigma_per_channel=False, p_per_sample=chosen.blur),
        SimulateLowResolutionTransform(
            (0.5, 1), order_downsample=0, order_upsample=1, p_per_sample=chosen.low_resolution
        ),
        GammaTransform((0.7, 1.5), True, p_per_sample=chosen.inverted_gamma, **bent),
        GammaTransform((0.7, 1.5), False, p_per_sample=chosen.gamma, **bent),
    ]
    whole = Compose(steps + [step for step in pipeline.rest.transforms if not isinstance(step, Sometimes)])
    begin = time.process_time()
    for number in range(samples):
        np.random.seed(number)
        random.seed(number)
        image, labels = draw(source, np.random.default_rng(number)).cut(source.plan, with_margin=True)
        whole(data=image[None], seg=labels[None, None].astype(np.float32))
    return (time.process_time() - begin) * 1000 / samples


def through_processes(source: Source, workers: int, samples: int) -> dict:
    """Samples a second through loader processes, CPU ms of the training process per sample, and their memory."""
    size = source.plan.training.batch_size
    loader = batches({"head": source}, 0, 0, workers)
    try:
        for _ in range(2 * workers + 1):
            next(loader)
        begin, busy, steps = time.perf_counter(), time.process_time(), max(4, samples // size)
        for _ in range(steps):
            next(loader)
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
        memory = [memory_mb(pid) for pid in loader.pids]
    finally:
        loader.close()
    return {
        "workers": workers,
        "samples_a_second": round(steps * size / seconds, 1),
        "parent_ms": round(busy * 1000 / steps / size, 2),
        "process_mb": {name: round(max(each[name] for each in memory)) for name in memory[0]},
    }


def memory_mb(pid: int) -> dict[str, float]:
    """Of a process: all that it sees, its share of what several see, and what it alone has written (Linux)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return {"rss": sizes["Rss"], "pss": sizes["Pss"], "own": sizes["Private_Dirty"]}


def device_ms(source: Source, device: str, batch: int = 16) -> float:
    """Of one sample's spatial augmentation on a device, copied there with its margin, in a batch."""
    image, labels = draw(source, np.random.default_rng(0)).cut(source.plan, with_margin=True)
    images, marks = torch.from_numpy(np.stack([image] * batch)), torch.from_numpy(np.stack([labels] * batch))
    matrices = np.stack([1.1 * np.array([[0.8, 0.6], [-0.6, 0.8]])] * batch)

    def job() -> None:
        warp(images.to(device), marks.to(device), matrices, source.plan.patch_size)
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()

    job()
    begin = time.perf_counter()
    for _ in range(10):
        job()
    return (time.perf_counter() - begin) * 1000 / 10 / batch


if __name__ == "__main__":
    main()
