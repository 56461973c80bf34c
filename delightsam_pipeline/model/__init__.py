"""De-LightSAM, in torch alone: the network, weights from outside, and the teacher."""

from delightsam_pipeline.model.release import from_release

__all__ = ["from_release"]
