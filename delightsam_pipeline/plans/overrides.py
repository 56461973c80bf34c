"""Decisions that the user takes in the planner's place, as DECISION=VALUE: read, and checked by the plan's model."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.plans.draft import shown
from delightsam_pipeline.plans.plan import DECISIONS, Augmentation, Normalisation, Plan, Training

_PARTS = {"normalisation": Normalisation, "augmentation": Augmentation, "training": Training}
_JOINTS = ("x", ",")  # of 0.8x0.8 and false,false
_EXAMPLES = {"spacing": "0.8x0.8", "patch_size": "448x320", "scale": "0.7x1.4", "flips": "true,false"}


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """'DECISION=VALUE' texts -> checked values by decision (see `check_overrides`)."""
    given: dict[str, Any] = {}
    for text in texts:
        name, joint, value = (part.strip() for part in text.partition("="))
        if not joint or not value:
            raise UserError(f"'{text}' sets nothing", expected="DECISION=VALUE", fix="write for instance input=repeat")
        if given.get(name, value) != value:
            raise UserError(f"{name} is set twice", found=f"{given[name]} and {value}")
        given[name] = value
    return check_overrides(given)


def check_overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values, as texts or as the plan holds them, by decision or part of one ('training.epochs') -> as JSON holds them.

    `normalisation` alone is its scheme. Raises UserError for unknown names, values that the plan does not allow, and
    decisions that exclude each other.
    """
    checked = {_known(name): _value(_known(name), value) for name, value in given.items()}
    if len(checked) < len(given):
        raise UserError("normalisation and normalisation.scheme are the same decision", fix="set one of them")
    if checked.get("scaling") == "fit" and "spacing" in checked:
        problem = "scaling=fit and spacing exclude each other: every image is scaled until it fits"
        raise UserError(problem, fix="set patch_size instead of spacing")
    return checked


@cache
def _fields() -> dict[str, FieldInfo]:
    """What can be set: decisions, and the parts of those that have several."""
    whole = {name: Plan.model_fields[name] for name in DECISIONS if name not in _PARTS}
    parts = {f"{part}.{name}": field for part, m in _PARTS.items() for name, field in m.model_fields.items()}
    return whole | parts


def _known(name: str) -> str:
    """The full name of what can be set."""
    name = "normalisation.scheme" if name == "normalisation" else name
    if name in _fields():
        return name
    if name in _PARTS:
        parts = [other for other in _fields() if other.startswith(f"{name}.")]
        raise UserError(f"'{name}' has several parts", fix=f"set one of them: {', '.join(parts)}")
    parts = {other.partition(".")[2]: other for other in _fields() if "." in other}
    close = difflib.get_close_matches(name, [*_fields(), *parts, "normalisation"], n=1)
    hint = f"did you mean {parts.get(close[0], close[0])}?" if close else f"decisions are {', '.join(_fields())}"
    raise UserError(f"there is no decision '{name}' to set", fix=hint)


def _value(name: str, value: Any) -> Any:
    field = _fields()[name]
    several = get_origin(field.annotation) in (tuple, list)
    told = "x".join(map(shown, value)) if several and not isinstance(value, str) else shown(value)
    if isinstance(value, str):
        value = [_read(part) for part in _split(value)] if several else _read(value, field.annotation is str)
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    adapter = TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))
    try:
        return adapter.dump_python(adapter.validate_python(value), mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{name}={told} is not possible: {_said(first, name)}", fix=_example(name)) from None


def _said(problem: Mapping[str, Any], name: str) -> str:
    pair = get_origin(_fields()[name].annotation) is tuple
    return "it takes two values" if pair and problem["type"] in ("missing", "too_long") else problem["msg"].lower()


def _example(name: str) -> str | None:
    """How several values are written, for a decision that takes them."""
    kind = get_origin(_fields()[name].annotation)
    if kind is list:
        return f"write one value for each image channel, for two of them {name}=50,60"
    return f"write for instance {name}={_EXAMPLES[name.rpartition('.')[2]]}" if kind is tuple else None


def _split(text: str) -> list[str]:
    joint = next((joint for joint in _JOINTS if joint in text), None)
    return text.split(joint) if joint else [text]


def _read(text: str, as_it_is: bool = False) -> Any:
    """A number, true or false as JSON has them; anything else is the text itself."""
    if as_it_is:
        return text
    try:
        value = json.loads(text.strip().lower())
    except ValueError:
        return text.strip()
    return value if isinstance(value, int | float) else text.strip()
