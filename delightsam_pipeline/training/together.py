"""How a sitting of a run begins: processes that are equal, steps that fit into memory, a network compiled if asked."""

from __future__ import annotations

import logging
from typing import Any

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.training.compiling import compile_network
from delightsam_pipeline.training.economy import agree_on_economy, rehearse
from delightsam_pipeline.training.setup import Run

log = logging.getLogger(__name__)


def require_the_same(run: Run) -> None:
    """Raises UserError, on all processes, when they are not about to train the same run, or are too many for it."""
    ranks = run.ranks
    for head, source in run.sources.items():
        size = source.plan.training.batch_size
        if size < ranks.size:
            found, fix = f"{ranks.size} processes", "start fewer, or plan again with a larger training.batch_size"
            raise UserError(f"{head}: a batch has {size} images, fewer than processes", found=found, fix=fix)
    every = ranks.gather((run.setup, run.progress.step))
    if len(set(every)) > 1:
        steps = ", ".join(f"step {step}" for _, step in every)
        fix = "let all see the same preprocessed data and results folder, and give all the same command"
        raise UserError("the processes do not begin with the same", file=run.folder, found=steps, fix=fix)


def begin_together(run: Run) -> None:
    """Make the processes equal and find out what fits into their memory; compile the network when that is asked for.

    Raises UserError when a step does not fit.
    """
    model, ranks = run.model.train(), run.ranks

    def step(batch: dict[str, Any], plan: Plan) -> None:
        run.stage.objective(model, batch, plan, run.device)[0].backward()

    plans = {head: source.plan for head, source in run.sources.items()}
    if ranks.size > 1:
        ranks.copy_first([*model.state_dict().values(), *run.average.tensors.values()])
        agree_on_economy(model, plans, step, ranks)
    if not run.options.compile:
        return
    if ranks.size > 1:
        log.warning("--compile is left out: batch norms over several processes are not compiled")
    else:
        compile_network(model, lambda: rehearse(model, plans, step))
