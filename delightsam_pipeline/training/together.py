"""How a sitting of a run begins: processes that are equal, steps that fit into memory, a network compiled if asked."""

from __future__ import annotations

import logging
from typing import Any

from delightsam_pipeline.files import digest
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.training.compiling import compile_network
from delightsam_pipeline.training.economy import agree_on_economy, begin_with, economy, parts_in_force, rehearse
from delightsam_pipeline.training.ranks import SharedError
from delightsam_pipeline.training.setup import Run

log = logging.getLogger(__name__)
_DIGITS = 8  # of a digest, for people


def require_the_same(run: Run) -> None:
    """Raises SharedError, on all processes, when they are not about to train the same run, or are too many for it."""
    ranks = run.ranks
    for head, source in run.sources.items():
        size = source.plan.training.batch_size
        if size < ranks.size:
            found, fix = f"{ranks.size} processes", "start fewer, or plan again with a larger training.batch_size"
            raise SharedError(f"{head}: a batch has {size} images, fewer than processes", found=found, fix=fix)
    every = ranks.gather(_told(run))
    differing = {what: [told.get(what) for told in every] for what in every[0]}
    differing = {what: values for what, values in differing.items() if any(value != values[0] for value in values)}
    if differing:
        found = "; ".join(f"{what}: {', '.join(map(str, values))}" for what, values in differing.items())
        fix = "let all see the same preprocessed data and results folder, and give all the same command"
        raise SharedError("the processes do not begin with the same", file=run.folder, found=found, fix=fix)


def _told(run: Run) -> dict[str, str | int]:
    """What has to be the same for all processes, by what it is called."""
    length = run.length
    return {
        "cases, plan or seed": run.setup[:_DIGITS],
        "step": run.progress.step,
        "length": f"{length.epochs} epochs" if length.seconds is None else f"{length.seconds:g} s",
        "steps of an epoch": length.steps_per_epoch,
    } | {f"training of {h}": digest(s.plan.training.model_dump(mode="json"))[:_DIGITS] for h, s in run.sources.items()}


def begin_together(run: Run) -> None:
    """Make the processes equal and find out what fits into their memory; compile the network when that is asked for.

    Raises UserError when a step does not fit.
    """
    model, ranks = run.model.train(), run.ranks

    def step(batch: dict[str, Any], plan: Plan) -> None:
        run.stage.objective(model, batch, plan, run.device)[0].backward()

    plans = {head: source.plan for head, source in run.sources.items()}
    begin_with(model, run.progress.parts)
    if ranks.size > 1:
        ranks.copy_first([*model.state_dict().values(), *run.average.tensors.values()])
        agree_on_economy(model, plans, step, ranks)
        run.progress.parts = parts_in_force(model)
    if not run.options.compile:
        return
    if ranks.size > 1:
        log.warning("--compile is left out: batch norms over several processes are not compiled")
    elif economy(model) is not None:
        log.warning("--compile is left out: what is compiled keeps its activations, and memory does not suffice")
    else:
        compile_network(model, lambda: rehearse(model, plans, step))
