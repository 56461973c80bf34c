"""Black and white in the network's input: changes of an acquisition happen to what was recorded, not to z-scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.normalisation import ends


@dataclass(frozen=True)
class Levels:
    """Where black and white lie, [C or 1, 1, 1] each, in normalised intensities.

    None where the plan's scheme leaves no fixed ones (z-score): then a patch's own lowest value is black, since what
    gives no signal is nearly always in sight, and its highest is white, though values may go beyond it.
    zeros_stay : zeros are what lies outside the object and are left alone.
    """

    black: np.ndarray | None
    white: np.ndarray | None
    zeros_stay: bool

    @staticmethod
    def of(plan: Plan) -> Levels:
        """Those of a plan's normalisation."""
        black, white = ends(plan.normalisation, len(plan.channel_names)) or (None, None)
        return Levels(black, white, plan.normalisation.inside_nonzero)

    def between(self, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """`change` of values from black 0 to white 1 as one of normalised images [C, h, w]."""
        return partial(self._changed, change=change)

    def _changed(self, image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        fixed = self.black is not None
        black = self.black if fixed else image.min(axis=(1, 2), keepdims=True)
        white = self.white if fixed else image.max(axis=(1, 2), keepdims=True)
        width = np.maximum(white - black, np.float32(1e-6))
        values = change((image - black) / width)
        values = (values.clip(0, 1) if fixed else values) * width + black
        return np.where(image == 0, image, values) if self.zeros_stay else values
