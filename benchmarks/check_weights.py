"""Whether a weights file works here: for a person who has MobileSAM, SAM, a De-LightSAM release or a model of ours.

    python benchmarks/check_weights.py FILE

Says what the file is by its content, whether its SHA-256 is one of docs/how-to/pretrained-weights.md, loads it, runs
the image encoder on one generated image of 1024 x 1024, and prints a verdict to paste into a report. No figures of
real files are recorded here yet, so the embedding is only held against bounds that any trained encoder keeps.
Exits with 1 when a check fails. ViT-H takes 6 GB of memory, and a minute on a CPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.model_folder import sha256
from delightsam_pipeline.model.checkpoints import load_tensors
from delightsam_pipeline.model.delightsam import DeLightSAM, HeadSpec
from delightsam_pipeline.model.pretrained import load_pretrained, weights_file
from delightsam_pipeline.model.recognition import recognise
from delightsam_pipeline.model.release import from_release

KNOWN = {
    "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f": "mobile_sam.pt",
    "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912": "sam_vit_b_01ec64.pth",
    "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622": "sam_vit_l_0b3195.pth",
    "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e": "sam_vit_h_4b8939.pth",
    "79555730abffb5b39bef5d59afb7b89b13468348b77efa144649b90fddc01778": "ESP_isic_best.pth (seen in one source only)",
}
# tensors and numbers of the authors' files, parameters and all else
SIZES = {
    "MobileSAM": (439, 10_140_231),
    "SAM ViT-B": (314, 93_735_728),
    "SAM ViT-L": (482, 312_343_088),
    "SAM ViT-H": (594, 641_090_864),
    "a De-LightSAM release": (504, 12_799_726),
}
MEAN, DEVIATION = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])


def image() -> Tensor:
    """[1, 3, 1024, 1024] on 0..255: waves of three lengths with a bright disc and a dark square."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 1024), torch.linspace(0, 1, 1024), indexing="ij")
    waves = [128 + 60 * torch.sin(2 * torch.pi * (n * x + (4 - n) * y)) for n in (1, 2, 3)]
    picture = torch.stack(waves)
    picture[:, (x - 0.3) ** 2 + (y - 0.4) ** 2 < 0.02] = 230
    picture[:, 640:800, 600:900] = 20
    return picture[None]


def embed(kind: str, state: Mapping[str, Tensor], file: Path) -> Tensor:
    """The embedding [1, 256, 64, 64] of the image, scaled as the weights know it."""
    mean, deviation = MEAN[:, None, None], DEVIATION[:, None, None]
    if kind == "a De-LightSAM release":
        # the authors divide by the mean
        return from_release(state).eval()((image() - mean) / mean, 0)[2]
    scaled = (image() - mean) / deviation
    if kind.startswith("SAM"):
        from delightsam_pipeline.model.sam_vit import sam_vit_from

        return sam_vit_from(state, file)(scaled)
    own = kind == "one of our models"
    modality = next((name.split(".")[1] for name in state if name.startswith("controllers.")), "any")
    model = DeLightSAM({"any": HeadSpec(modality, 1)}, fit_windows=own)
    load_pretrained(model, file)
    return model.eval().encode(scaled, "any")[0]


def checks(kind: str, state: Mapping[str, Tensor], embedding: Tensor) -> list[tuple[bool, str]]:
    """Whether each check holds, and what it found."""
    found = len(state), sum(value.numel() for value in state.values())
    expected = SIZES.get(kind, found)
    broken = [n for n, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    mean, deviation = embedding.mean().item(), embedding.std().item()
    over_places = embedding.std(dim=(2, 3)).mean().item()
    return [
        (found == expected, f"{found[0]} tensors, {found[1]:,} numbers (expected {expected[0]}, {expected[1]:,})"),
        (not broken, f"{len(broken)} tensors with numbers that are not finite {broken[:3] or ''}".rstrip()),
        (list(embedding.shape) == [1, 256, 64, 64], f"embedding {list(embedding.shape)}"),
        (abs(mean) < 1 and 0.01 < deviation < 10, f"embedding mean {mean:.5f}, deviation {deviation:.5f}"),
        (over_places > 0.001, f"embedding deviation over the image, channels' mean {over_places:.5f}"),
    ]


def main() -> int:
    """Check the file of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help="a weights file, or the folder of one of our models")
    try:
        file = weights_file(parser.parse_args().file)
        state = load_tensors(file)
        kind = recognise(state, file).kind
        digest = sha256(file)
        print(f"file       {file.name}, {file.stat().st_size:,} bytes\nis         {kind}")
        print(f"SHA-256    {digest}\n           {KNOWN.get(digest, 'none that is known')}")
        print(load_pretrained(DeLightSAM({"any": HeadSpec("any", 1)}), file))
        with torch.inference_mode():
            results = checks(kind, state, embed(kind, state, file))
    except UserError as error:
        print(f"verdict    unusable: {error}")
        return 1
    for holds, text in results:
        print(f"{'ok  ' if holds else 'FAIL'}       {text}")
    failed = sum(not holds for holds, _ in results)
    print(f"verdict    {f'{failed} of {len(results)} checks fail' if failed else 'recognised, loaded, run: all well'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
