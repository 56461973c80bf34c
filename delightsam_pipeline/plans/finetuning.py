"""Planning for fine-tuning: the scale at which a trained model knows its modality is taken from that model's plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delightsam_pipeline.errors import UserError, listed
from delightsam_pipeline.files import read_json
from delightsam_pipeline.paths import means
from delightsam_pipeline.plans.fingerprint import Fingerprint
from delightsam_pipeline.plans.modalities import lookup
from delightsam_pipeline.plans.plan import DECISIONS, Plan, load_plan

# the others are what trained weights are used to
_OWN = ("modality", "augmentation", "training")
_TAKEN = tuple(name for name in DECISIONS if name not in _OWN)


@dataclass(frozen=True)
class Pretrained:
    """Plans of a trained model by head, and where it lies."""

    path: Path
    plans: Mapping[str, Plan]

    @property
    def name(self) -> str:
        """What it is called in plans, which travel: the end of its path."""
        return "/".join(self.path.absolute().parts[-2:])

    @staticmethod
    def find(text: str) -> Pretrained:
        """The plans of a trained model: 'MODEL' or 'MODEL:HEAD', MODEL a fold's folder, the one that holds the folds
        (which share their plans), a plan.json, or a preprocessed dataset's folder, where one lies.

        Raises UserError when there is no such thing, or it has no such head.
        """
        path, head = Path(text), ""
        before, _, after = text.rpartition(":")
        if not path.exists() and before and Path(before).exists():
            path, head = Path(before), after
        cards = [path / "model.json", *sorted(path.glob("fold_*/model.json"))]
        card = next((file for file in cards if file.is_file()), None)
        if card is not None:
            plans = {name: load_plan(card.parent / "plans" / f"{name}.json") for name in _heads(card)}
        else:
            plan = _only_plan(path)
            plans = {plan.dataset: plan}
        called = {name: plan for name, plan in plans.items() if not head or _is_called(head, name, plan)}
        if not called:
            raise _choose(f"no head is called '{head}'", path, plans)
        return Pretrained(path, called)

    def decisions(self, print_: Fingerprint) -> dict[str, Any]:
        """What the new dataset takes over, from the only head or the only one of its modality.

        Raises UserError when the data is of another kind than the model's.
        """
        plans = dict(self.plans)
        if len(plans) > 1:
            plans = {name: plan for name, plan in plans.items() if plan.modality == print_.modality}
        if len(plans) != 1:
            problem = f"{'several heads are' if plans else 'no head is'} of the modality {print_.modality}"
            raise _choose(problem, self.path, self.plans)
        plan = next(iter(plans.values()))
        _check(print_, plan, self.path)
        # with "fit" the spacing is that of the dataset's own median image
        return {name: getattr(plan, name) for name in _TAKEN if (name, plan.scaling) != ("spacing", "fit")}


def _only_plan(path: Path) -> Plan:
    """The plan that a file is, or that lies in a preprocessed dataset's folder. Raises UserError for all else."""
    fix = "give the folder of a trained model, of a preprocessed dataset, or a plan.json"
    file = path if path.is_file() else path / "plan.json"
    if not file.is_file():
        raise UserError("is not a model folder (no model.json), and has no plan.json", file=path, fix=fix)
    value = read_json(file)
    entries = list(value) if isinstance(value, dict) else []
    if set(DECISIONS).isdisjoint(entries) or "reasons" not in entries:
        found = f"the entries {listed(entries, 5)}" if entries else "JSON without entries"
        expected = "the plan.json that dlsam_plan_and_preprocess writes"
        raise UserError("is not a plan", file=file, expected=expected, found=found, fix=fix)
    return load_plan(file)


def _heads(card: Path) -> list[str]:
    value = read_json(card)
    heads = value.get("heads") if isinstance(value, dict) else None
    if not isinstance(heads, dict) or not heads:
        raise UserError("is not a valid model description: heads", file=card)
    return list(heads)


def _is_called(wanted: str, name: str, plan: Plan) -> bool:
    known = lookup(wanted)
    return wanted == name or means(wanted, name) or (known.name if known else wanted) == plan.modality


def _choose(problem: str, path: Path, plans: Mapping[str, Plan]) -> UserError:
    listed = ", ".join(f"{name} ({plan.modality})" for name, plan in plans.items())
    return UserError(problem, file=path, found=listed, fix="choose one with --plans-from MODEL:HEAD")


def _check(print_: Fingerprint, plan: Plan, model: Path) -> None:
    """Raise UserError when the dataset is not of the kind that the plan is for."""
    kinds = {True: "images with a spacing in mm", False: "pictures without a spacing in mm"}
    differences = [
        (plan.modality, print_.modality),
        (kinds[plan.physical], kinds[print_.physical]),
        tuple(f"image channels: {len(names)}" for names in (plan.channel_names, print_.channel_names)),
    ]
    for of_model, of_data in differences:
        if of_model != of_data:
            problem = f"{print_.dataset} is of another kind than {plan.dataset}, which this model was trained on"
            fix = "fine-tune a model of the same kind of images"
            raise UserError(problem, file=model, expected=of_model, found=of_data, fix=fix)
