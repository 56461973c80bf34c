"""Tiny preprocessed datasets of pictures, made as the command makes them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.files import write_json
from delightsam_pipeline.preprocessing.run import plan_dataset, preprocess
from delightsam_pipeline.preprocessing.store import Store


@pytest.fixture(autouse=True)
def one_core(same_numbers_on_one_core):
    """For every test here."""


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """make_store(name, modality, images, masks, training={}, augmentation={}, entries={}, **decisions) -> Store.

    images, masks : arrays [h, w] uint8; masks of 0 and 1. entries : replace those of dataset.json. The other keywords
    replace what the planner decided.
    """

    def make(name, modality, images, masks, training=None, augmentation=None, entries=None, **decisions) -> Store:
        root = tmp_path_factory.mktemp("store")
        raw, folder = root / "raw" / name, root / "preprocessed" / name
        for part in ("imagesTr", "labelsTr"):
            (raw / part).mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            Image.fromarray(image).save(raw / "imagesTr" / f"case{number}_0000.png")
            Image.fromarray(mask).save(raw / "labelsTr" / f"case{number}.png")
        description = {
            "channel_names": {"0": "grey"},
            "labels": {"background": 0, "lesion": 1},
            "numTraining": len(images),
            "file_ending": ".png",
            "modality": modality,
        }
        (raw / "dataset.json").write_text(json.dumps(description | (entries or {})))
        dataset = load_dataset(raw)
        plan = plan_dataset(dataset, folder, workers=1)
        parts = {"training": training or {}, "augmentation": augmentation or {}}
        changes = {part: getattr(plan, part).model_copy(update=values) for part, values in parts.items()}
        plan = plan.model_copy(update=changes | decisions)
        write_json(folder / "plan.json", plan.model_dump(mode="json"))
        preprocess(dataset, plan, folder, workers=1)
        return Store.load(folder)

    return make


@pytest.fixture(scope="session")
def blobs():
    """blobs(count, side, seed) -> noisy pictures with a bright rectangle, and its masks."""

    def make(count, side=64, seed=0):
        generator = np.random.default_rng(seed)
        images, masks = [], []
        for _ in range(count):
            mask = np.zeros((side, side), np.uint8)
            top, left = generator.integers(4, side // 2, 2)
            mask[top : top + 20, left : left + 26] = 1
            images.append((generator.integers(0, 90, (side, side)) + 120 * mask).astype(np.uint8))
            masks.append(mask)
        return images, masks

    return make
