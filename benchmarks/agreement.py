"""Whether the forms and precisions of a trained model give the same labels, on held-out cases.

    python benchmarks/agreement.py --preprocessed FOLDER --model MODEL --fold 0 --cases 8

For every head of the model, over so many validation cases of the fold: the share of pixels that agree between the
training form in fp32 and the other three of training and inference form in fp32 and bf16, and what the rest is of the
foreground.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from delightsam_pipeline.data.splits import fold_cases
from delightsam_pipeline.inference.device import choose_device
from delightsam_pipeline.inference.model_folder import load_model
from delightsam_pipeline.inference.segment import segment
from delightsam_pipeline.model.inference_form import prepare_for_inference
from delightsam_pipeline.preprocessing.store import Store


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preprocessed", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--fold", default="0")
    parser.add_argument("--cases", type=int, default=8)
    args = parser.parse_args()
    device = choose_device()
    model, plans, _ = load_model(args.model)
    model = model.to(device.torch)
    for head, plan in plans.items():
        store = Store.load(args.preprocessed / head)
        _, held_out = fold_cases(store.splits, args.fold, list(store.cases))
        networks = {"training": model, "inference": prepare_for_inference(model, plan.modality)}
        pixels = foreground = 0
        other = dict.fromkeys(["training bf16", "inference fp32", "inference bf16"], 0)
        for name in held_out[: args.cases]:
            case = store.cases[name]
            labels = {
                f"{form} {precision}": segment(
                    network, head, plan, case.slices(), case.back, replace(device, bf16=precision == "bf16")
                )
                for form, network in networks.items()
                for precision in ("fp32", "bf16")
            }
            expected = labels["training fp32"]
            pixels, foreground = pixels + expected.size, foreground + int((expected > 0).sum())
            for kind in other:
                other[kind] += int((labels[kind] != expected).sum())
        print(f"{head}: {pixels} pixels, {foreground} of them foreground")
        for kind, count in other.items():
            print(
                f"  {kind:15s} {1 - count / pixels:.6f} agree, the rest is {count / foreground:.4%} of the foreground"
            )


if __name__ == "__main__":
    main()
