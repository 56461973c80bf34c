"""A plan while it is made: what the user or a model has fixed goes before the rules; each reason says whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from delightsam_pipeline.plans.plan import Normalisation

Part = TypeVar("Part", bound=BaseModel)


@dataclass(frozen=True)
class Draft:
    """Decisions taken so far.

    user : what the user sets, by decision or part of one, as JSON holds it. model : what is taken over from a trained
    model, called `model_name`. reasons : one sentence for every decision taken.
    """

    user: Mapping[str, Any]
    model: Mapping[str, Any]
    model_name: str = ""
    reasons: dict[str, str] = field(default_factory=dict)

    def fixed(self, *names: str) -> dict[str, Any]:
        """Those of these decisions that the rules do not take."""
        both = dict(self.model) | dict(self.user)
        return {name: _as_tuple(both[name]) for name in names if name in both}

    def take(self, name: str, value: Any, reason: str) -> Any:
        """Take a decision: `value` for its `reason`, unless it is fixed; then the reason says what the rules wanted."""
        fixed = self.fixed(name)
        if not fixed:
            self.reasons[name] = reason
            return value
        chosen = fixed[name]
        rules = "as the rules would" if chosen == value else f"the rules would have taken {shown(value)}"
        self.reasons[name] = f"{self.said_by(name)} ({rules}: {reason})"
        return chosen

    def take_parts(self, name: str, value: Part, reason: str) -> Part:
        """Take a decision of several parts, those that the user sets in the place of the rules'; a scheme is taken
        with its numbers before."""
        parts = {part: new for part, new in self.parts(name).items() if part != "scheme"}
        said = [
            f"; {part} {shown(new)} set by the user (the rules would have taken {shown(getattr(value, part))})"
            for part, new in parts.items()
        ]
        self.reasons[name] = reason + "".join(said)
        return type(value).model_validate(value.model_dump() | parts)

    def parts(self, name: str) -> dict[str, Any]:
        """What the user sets of a decision's parts."""
        return {key.partition(".")[2]: new for key, new in self.user.items() if key.startswith(f"{name}.")}

    def said_by(self, name: str) -> str:
        """Who fixed a decision."""
        return "set by the user" if name in self.user else f"from {self.model_name}, for fine-tuning"


def shown(value: Any) -> str:
    """A value as a sentence has it."""
    if isinstance(value, Normalisation):
        return value.scheme
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return " x ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:g}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
