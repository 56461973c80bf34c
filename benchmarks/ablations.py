"""What parts of the network bring, at equal steps, by replacing one before training.

    python benchmarks/ablations.py --preprocessed FOLDER --work WORK --variant light --fold 1 --epochs 3 Dataset101_X

Trains one model on a preprocessed dataset (or several, joined with +) with one variant and appends a line of JSON to
WORK/ablations.jsonl: mean validation Dice at the end per dataset, parameters, and GFLOP for one image of the (first)
plan's size. Variants:

    full       features of strides 8 and 4, each followed by a residual pair of 3x3 convolutions (the package's own)
    none       nothing finer than stride 16
    only8      stride 8 alone
    only4      stride 4 alone
    laterals   both, without the pairs of convolutions
    pairs      the pairs of convolutions without the encoder's features
    light      both, the pairs depthwise with one 1x1 between
    stride2    full, and masks at stride 2 with the stem's features of stride 2
    soft       full, and the prompt made of probabilities through which the mask loss reaches the generator
    slim       full, and controllers whose feed-forward narrows to C where the package's widens to 4 C
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch.nn.functional as F
from common import commit
from torch import nn

from delightsam_pipeline.evaluation.summary import mean_dice
from delightsam_pipeline.inference import segment
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.model import controller, decoder, prompt, tiny_vit
from delightsam_pipeline.model.costs import work
from delightsam_pipeline.model.layers import ConvNorm, FeedForward
from delightsam_pipeline.preprocessing import preparation
from delightsam_pipeline.preprocessing.store import Store
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.setup import Options, start

VARIANTS = ("full", "none", "only8", "only4", "laterals", "pairs", "light", "stride2", "soft", "slim")


class Laterals(decoder.Detail):
    """The encoder's features alone."""

    def forward(self, x, features, statistics):
        return x + self.lateral(features)


class Pairs(decoder.Detail):
    """The residual pair alone."""

    def forward(self, x, features, statistics):
        return x + self.conv2(F.gelu(self.conv1(x, statistics)), statistics)


class Light(decoder.Detail):
    """Depthwise 3x3, then 1x1, in the place of two full 3x3."""

    def __init__(self, c_in, c_out):
        super().__init__(c_in, c_out)
        self.conv1 = ConvNorm(c_out, c_out, 3, groups=c_out)
        self.conv2 = ConvNorm(c_out, c_out, 1, scale=0.0)


class Slim(FeedForward):
    """C -> C -> C."""

    def __init__(self, dim):
        super().__init__(dim)
        self.fc1, self.fc2 = nn.Linear(dim, dim), nn.Linear(dim, dim)


def _with_stride_2() -> None:
    """Masks at stride 2: pixel features enlarged, the stem's first features added by a third step of the path."""
    preparation.STRIDE = segment.STRIDE = 2
    build, forward = decoder.QueryDecoder.__init__, decoder.QueryDecoder.forward
    kept = {}

    def keep(self, x, statistics):
        kept["half"] = F.gelu(self.seq[0](x, statistics))
        return self.seq[2](kept["half"], statistics)

    def with_third(self, fine):
        build(self, fine)
        self.detail2 = decoder.Detail(32, 32)

    def finer(self, image, queries, features, statistics):
        queries, x = forward(self, image, queries, features, statistics)
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return queries, self.detail2(x, kept["half"], statistics)

    tiny_vit.Stem.forward, decoder.QueryDecoder.__init__, decoder.QueryDecoder.forward = keep, with_third, finer


def _soft(self, embedding):
    patch_logits = self.patch_decoder(embedding)
    soft = F.interpolate(patch_logits.sigmoid(), scale_factor=2, mode="nearest")
    return patch_logits, self.dense_prompter(soft)


def apply(variant: str) -> None:
    """Replace the part of the network that the variant changes."""
    build = decoder.QueryDecoder.__init__
    if variant in ("laterals", "pairs", "light"):
        decoder.Detail = {"laterals": Laterals, "pairs": Pairs, "light": Light}[variant]
    elif variant in ("none", "only8", "only4"):

        def fewer(self, fine):
            build(self, fine)
            self.detail8 = self.detail8 if variant == "only8" else None
            self.detail4 = self.detail4 if variant == "only4" else None

        decoder.QueryDecoder.__init__ = fewer
    elif variant == "stride2":
        _with_stride_2()
    elif variant == "soft":
        prompt.PromptGenerator.forward = _soft
    elif variant == "slim":
        controller.FeedForward = Slim


def main() -> None:
    """Train, validate, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preprocessed", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--fold", default="1")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=12345)
    parser.add_argument("dataset")
    args = parser.parse_args()
    apply(args.variant)
    stores = {name: Store.load(args.preprocessed / name) for name in args.dataset.split("+")}
    folder = args.work / f"{args.dataset}-{args.variant}-fold{args.fold}-seed{args.seed}"
    begin = time.monotonic()
    run = start(stores, folder, Options(args.fold, args.epochs, seed=args.seed, restart=True), choose_device("cpu"))
    train(run)
    model, first = run.averaged_model(), next(iter(stores))
    flop = work(model, first, *run.plans[first].patch_size)
    record = {
        "dataset": args.dataset,
        "variant": args.variant,
        "fold": args.fold,
        "seed": args.seed,
        "steps": run.progress.step,
        "dice": {name: round(_dice(folder / "validation" / name), 4) for name in stores},
        "parameters": sum(p.numel() for p in model.parameters()),
        "decoder_parameters": sum(p.numel() for p in model.decoder.parameters()),
        "decoder_gflop": round(flop["decoder"] / 1e9, 3),
        "gflop": round(sum(flop.values()) / 1e9, 3),
        "seconds": round(time.monotonic() - begin),
        "commit": commit(),
    }
    with open(args.work / "ablations.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    print(record)


def _dice(folder: Path) -> float:
    return mean_dice(json.loads((folder / "summary.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
