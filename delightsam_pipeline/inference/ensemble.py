"""The networks of several folds as one: their mask logits are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference.model_folder import load_model
from delightsam_pipeline.model.delightsam import DeLightSAM
from delightsam_pipeline.model.inference_form import prepare_for_inference
from delightsam_pipeline.plans.plan import Plan


class Ensemble(nn.Module):
    """Networks with the same heads in the place of one; each batch goes through all of them, one after the other."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor, head: str) -> tuple[Tensor, None, None]:
        """Scaled images [B, C_in, H, W] -> mean mask logits [B, K, H/4, W/4], float32; nothing else is averaged."""
        return sum(network(images, head)[0].float() for network in self.networks) / len(self.networks), None, None


def inference_form(model: nn.Module, head: str) -> nn.Module:
    """What predicts this head and the others of its modality, faster; a network of another kind is returned itself."""
    if isinstance(model, Ensemble):
        return Ensemble([inference_form(network, head) for network in model.networks])
    return prepare_for_inference(model, model.specs[head].modality) if isinstance(model, DeLightSAM) else model


def load_networks(folders: Sequence[Path], checkpoint: str) -> tuple[DeLightSAM | Ensemble, dict[str, Plan]]:
    """The network of one model folder, or those of several as one, with a plan per head.

    Raises UserError as `load_model` does, and naming both folders when two were not trained for the same.
    """
    first, *others = folders
    network, plans, _ = load_model(first, checkpoint)
    networks = [network]
    for folder in others:
        network, own, _ = load_model(folder, checkpoint)
        _require_same(own, folder, plans, first)
        networks.append(network)
    return Ensemble(networks) if others else network, plans


def _require_same(own: Mapping[str, Plan], folder: Path, plans: Mapping[str, Plan], first: Path) -> None:
    """The digest holds targets, patch size and all else on which the meaning of logits depends."""
    fix = "predict with one of them, or train them again on the same preprocessed data"
    if own.keys() != plans.keys():
        expected, found = ", ".join(sorted(plans)), ", ".join(sorted(own))
        raise UserError(f"has other heads than {first}", file=folder, expected=expected, found=found, fix=fix)
    for head, plan in plans.items():
        if own[head].preprocessing_digest() != plan.preprocessing_digest():
            raise UserError(f"head '{head}' was trained with another plan than in {first}", file=folder, fix=fix)
