"""What parts of the network bring, at equal steps, by replacing one before training.

    python benchmarks/ablations.py --preprocessed FOLDER --work WORK --variant light --fold 1 --epochs 3 Dataset101_X

Trains one model on a preprocessed dataset (or several, joined with +) with one variant and appends a line of JSON to
WORK/ablations.jsonl: mean validation Dice at the end per dataset, parameters, and GFLOP for one image of the (first)
plan's size. Variants:

    own        the package's: features of strides 8 and 4 added through 1x1 convolutions, a prompt of two values
    none       nothing finer than stride 16
    only8      stride 8 alone
    only4      stride 4 alone
    pairs      own, and a residual pair of 3x3 convolutions with batch norm after each of the two
    light      as pairs, but depthwise with a 1x1
    stride2    own, and masks at stride 2 with the stem's features of stride 2
    soft       own, and the prompt made of probabilities, through which the mask loss reaches the generator
    slim       own, and controllers whose feed-forward narrows to C where the package's widens to 4 C
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
from delightsam_pipeline.model.layers import FeedForward
from delightsam_pipeline.preprocessing import preparation
from delightsam_pipeline.preprocessing.store import Store
from delightsam_pipeline.training.loop import train
from delightsam_pipeline.training.setup import Options, start

VARIANTS = ("own", "none", "only8", "only4", "pairs", "light", "stride2", "soft", "slim")


class Residual(nn.Module):
    """x + f(x), zero at first."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(layers[-1].out_channels))
        nn.init.zeros_(self.layers[-1].weight)

    def forward(self, x):
        return x + self.layers(x)


class Slim(FeedForward):
    """C -> C -> C."""

    def __init__(self, dim):
        super().__init__(dim)
        self.fc1, self.fc2 = nn.Linear(dim, dim), nn.Linear(dim, dim)


def _pair(width, light):
    groups, kernel = (width, 1) if light else (1, 3)
    first = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False)
    second = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
    return Residual(first, nn.BatchNorm2d(width), nn.GELU(), second)


def _with_pairs(light) -> None:
    build, forward = decoder.QueryDecoder.__init__, decoder.QueryDecoder.forward

    def with_pairs(self, fine):
        build(self, fine)
        self.output_upscaling[3] = nn.Sequential(_pair(64, light), self.output_upscaling[3])
        self.pair4 = _pair(32, light)

    def finer(self, image, queries, fine):
        queries, x = forward(self, image, queries, fine)
        return queries, self.pair4(x)

    decoder.QueryDecoder.__init__, decoder.QueryDecoder.forward = with_pairs, finer


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
        self.lateral2 = nn.Conv2d(32, 32, 1)

    def finer(self, image, queries, fine):
        queries, x = forward(self, image, queries, fine)
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return queries, x + self.lateral2(kept["half"])

    tiny_vit.Stem.forward, decoder.QueryDecoder.__init__, decoder.QueryDecoder.forward = keep, with_third, finer


def _soft(self, embedding):
    patch_logits = self.patch_decoder(embedding)
    soft = F.interpolate(patch_logits.sigmoid(), scale_factor=2, mode="nearest")
    return patch_logits, self.dense_prompter(soft)


def apply(variant: str) -> None:
    """Replace the part of the network that the variant changes."""
    build = decoder.QueryDecoder.__init__
    if variant in ("none", "only8", "only4"):

        def fewer(self, fine):
            build(self, fine)
            self.lateral8 = self.lateral8 if variant == "only8" else None
            self.lateral4 = self.lateral4 if variant == "only4" else None

        decoder.QueryDecoder.__init__ = fewer
    elif variant in ("pairs", "light"):
        _with_pairs(light=variant == "light")
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
    parser.add_argument("--fold", default="2")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=12345)
    parser.add_argument("--add-to", type=Path, metavar="MODEL", help="freeze this model, of the same variant, and add")
    parser.add_argument("dataset")
    args = parser.parse_args()
    apply(args.variant)
    stores = {name: Store.load(args.preprocessed / name) for name in args.dataset.split("+")}
    added = "-added" if args.add_to else ""
    folder = args.work / f"{args.dataset}-{args.variant}-fold{args.fold}-seed{args.seed}{added}"
    begin = time.monotonic()
    options = Options(args.fold, args.epochs, seed=args.seed, restart=True, add_to=args.add_to)
    run = start(stores, folder, options, choose_device("cpu"))
    train(run)
    model, first = run.averaged_model(), next(iter(stores))
    flop = work(model, first, *run.plans[first].patch_size)
    record = {
        "dataset": args.dataset,
        "variant": args.variant,
        "fold": args.fold,
        "seed": args.seed,
        "added_to": args.add_to and args.add_to.name,
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
