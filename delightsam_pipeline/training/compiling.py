"""torch.compile of a network in training, which falls back by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from delightsam_pipeline.model.delightsam import DeLightSAM

log = logging.getLogger(__name__)
_SAID = 200  # characters of an error


def compile_network(model: DeLightSAM, trial: Callable[[], None], backend: str = "inductor") -> bool:
    """Compile the network in place, which keeps the names of its weights; a copy of it is not compiled.

    trial : a step, which compiles. Where it fails the network stays as it was, with one warning. False then.
    """
    torch._dynamo.reset()
    try:
        model.compile(backend=backend)
        trial()
    except Exception as error:  # too little memory as well: then steps are made cheaper, which compiled ones cannot be
        stay_uncompiled(model)
        reason = " ".join(str(error).split())[:_SAID]
        log.warning("the network is not compiled, which fails here (%s: %s)", type(error).__name__, reason)
        return False
    return True


def stay_uncompiled(model: DeLightSAM) -> None:
    """Leave the compiled form, for good."""
    model._compiled_call_impl = None  # what Module.compile sets; torch has no other way back
