"""Why a loss was not finite: the batch of that step is made once more and looked at."""

from __future__ import annotations

import numpy as np

from delightsam_pipeline.errors import listed
from delightsam_pipeline.preprocessing.store import StoredCase
from delightsam_pipeline.training.loading import batches
from delightsam_pipeline.training.ranks import SharedError
from delightsam_pipeline.training.setup import Run

_NAMED = 5


def not_finite(run: Run, step: int) -> SharedError:
    """The error to raise for a run whose loss was not finite at this step (from 0).

    Batches depend on the seed and the step's number alone, so that of the step can be had again: all of it, whichever
    of several processes had the image at fault.
    """
    batch = next(batches(run.sources, run.options.seed, step, 0, run.stage.period))
    cases = {case.name: case for case in run.sources[batch["head"]].cases}
    whole = dict.fromkeys(batch["cases"], True)
    for name, image in zip(batch["cases"], batch["images"], strict=True):
        whole[name] = whole[name] and bool(np.isfinite(image).all())
    broken = [name for name, is_whole in whole.items() if not is_whole]
    place = f"step {step + 1} (epoch {run.progress.epoch + 1})"
    if broken:
        by = _broken_on_disk([cases[name] for name in broken])
        return SharedError(
            f"{batch['head']}: the loss is not a finite number, since pixels of {listed(broken, _NAMED)} are not",
            file=run.folder,
            found=f"{place}; {by}",
            fix="mend these images or leave them out, preprocess again, and give the same command",
        )
    fix = "plan with a smaller --set training.learning_rate and train with --restart"
    if run.progress.pretrained or run.options.add_to:
        fix += "; if it comes at the first step, the weights that it began with are broken"
    found = f"{place}, all images of which are finite ({listed(list(whole), _NAMED)}): training has diverged"
    return SharedError("the loss is not a finite number", file=run.folder, found=found, fix=fix)


def _broken_on_disk(cases: list[StoredCase]) -> str:
    """Whether the preprocessed images hold such pixels, or the augmentation makes them."""
    slices = {case.name: [z for z, image in enumerate(case.slices()) if not np.isfinite(image).all()] for case in cases}
    told = [f"{name} in {len(z)} of its slices" for name, z in slices.items() if z]
    return (
        f"preprocessed as such: {listed(told, _NAMED)}"
        if told
        else "they are finite as stored, and not after augmentation"
    )
