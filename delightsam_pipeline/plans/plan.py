"""The plan: every decision about a dataset as validated data, each with its reason in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from delightsam_pipeline.data.labels import Labels
from delightsam_pipeline.errors import UserError
from delightsam_pipeline.files import digest, read_json

Size = tuple[Annotated[int, Field(gt=0, le=8192, multiple_of=32)], Annotated[int, Field(gt=0, le=8192, multiple_of=32)]]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Factor = Annotated[float, Field(ge=0.1, le=10)]
LabelValue = Annotated[int, Field(strict=True, ge=0, le=65535)]
TOLD = ("reasons", "overrides", "plans_from")  # entries of a plan that say why, and decide nothing
OF_COLOUR = ("tint", "stain")  # changes that only an rgb input can have
CHANNELS = {"rgb": 3, "repeat": 1, "neighbours": 1}  # how many an input takes; a projection takes any number


class Strict(BaseModel):
    """Takes no entry that it does not know, no infinities, and stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LabelEntries(Strict):
    """The targets as JSON holds them (see data.labels.Labels)."""

    classes: list[str] = Field(min_length=1)
    ids: list[Annotated[list[LabelValue], Field(min_length=1)]]
    class_values: list[LabelValue]
    declared: list[LabelValue]
    ignore: LabelValue | None


class Normalisation(Strict):
    """How intensities become network input; the numbers are per image channel where the scheme uses them.

    scheme : "ct", "z-score", "percentile" or "photograph" (see plans.modalities).
    inside_nonzero : z-score only: mean and deviation are taken over nonzero voxels, zeros stay where they are.
    full_scale : the value that is white, for photographs (255, or 65535 for 16 bit).
    lower, upper : for CT. mean, std : for CT, and for photographs on 0 to 255; none there means the pretrained
        encoder's own.
    """

    scheme: Literal["ct", "z-score", "percentile", "photograph"]
    inside_nonzero: bool = False
    full_scale: Positive = 255
    lower: list[float] = []
    upper: list[float] = []
    mean: list[float] = []
    std: list[Positive] = []


class Augmentation(Strict):
    """What may be done to a training slice. scale : from, to. flips : per in-plane axis (rows, columns).

    colour : whether brightness, contrast and gamma change each channel by itself.
    noise to inverted_gamma : the share of slices that each of them changes.
    strength : of noise, brightness, contrast and gamma, near to nnU-Net's at 1; blur and lower resolution have but one.
    shading to stain : the modality's own changes (see training.augmentation.acquisition), each by its largest
        strength, none at 0; own_share : the share of slices that each of them changes.
    """

    rotation_degrees: Annotated[float, Field(ge=0, le=180)]
    scale: tuple[Factor, Factor]
    flips: tuple[bool, bool]
    colour: bool
    noise: Share = 0.1
    blur: Share = 0.2
    brightness: Share = 0.15
    contrast: Share = 0.15
    low_resolution: Share = 0.15
    gamma: Share = 0.3
    inverted_gamma: Share = 0.1
    strength: Annotated[float, Field(ge=0, le=2)] = 1
    own_share: Share = 0.3
    shading: Share = 0
    depth_gain: Share = 0
    speckle: Share = 0
    tint: Share = 0
    stain: Share = 0


class Training(Strict):
    """Length and step size of training; warm-up is a share of all steps."""

    epochs: Count
    steps_per_epoch: Count
    batch_size: Annotated[int, Field(ge=1)]  # its limit is memory
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    warmup: Share
    foreground_share: Share
    patch_loss_weight: Annotated[float, Field(ge=0, le=100)]


DECISIONS = (
    "modality",
    "slicing_axis",
    "input",
    "scaling",
    "spacing",
    "patch_size",
    "tile_overlap",
    "normalisation",
    "resampling",
    "augmentation",
    "training",
)


class Plan(Strict):
    """All choices for one dataset.

    slicing_axis : canonical axis (0 z, 1 y, 2 x) along which volumes are cut; the other two are rows and columns.
    input : "rgb" as it is, a grey picture as three equal colours; "repeat" one channel three times; "neighbours" a
        slice with the ones before and after it; "projection" the centre slice of every channel through a learned 1x1
        convolution (three go in as they are).
    scaling : "spacing" brings every image to `spacing`, and tiles what is larger than `patch_size`; "fit" shrinks or
        enlarges every image, keeping its aspect, until it just fits into `patch_size`.
    spacing : rows and columns of the network's input in `unit`; with "fit", that of the median image.
    tile_overlap : share of a tile that overlaps its neighbour.
    resampling : order of interpolation of images; labels go linearly per class.
    reasons : one sentence for every decision.
    overrides : what the user decided, by decision or part of one. plans_from : the model whose scale was taken over.
    """

    version: Literal[1] = 1
    dataset: str
    modality: str
    modality_id: Annotated[int, Field(ge=0, le=9)] | None
    channel_names: list[str] = Field(min_length=1)
    labels: LabelEntries
    file_ending: str
    physical: bool
    slicing_axis: Literal[0, 1, 2]
    input: Literal["rgb", "repeat", "neighbours", "projection"]
    scaling: Literal["spacing", "fit"]
    spacing: tuple[Positive, Positive]
    patch_size: Size
    tile_overlap: Annotated[float, Field(ge=0, le=0.9)]
    normalisation: Normalisation
    resampling: Literal["linear", "cubic"]
    augmentation: Augmentation
    training: Training
    reasons: dict[str, str]
    overrides: dict[str, JsonValue] = {}
    plans_from: str | None = None

    @model_validator(mode="after")
    def _entries_fit_together(self) -> Plan:
        problem = next(_contradictions(self), None)
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def unit(self) -> str:
        """Unit of `spacing`."""
        return "mm" if self.physical else "px"

    @property
    def targets(self) -> Labels:
        """The label definitions."""
        return Labels.from_dict(self.labels.model_dump())

    @property
    def in_channels(self) -> int:
        """Channels that the network is fed."""
        return len(self.channel_names) if self.input == "projection" else 3

    def preprocessing_digest(self) -> str:
        """Changes when a decision changes that the preprocessed store depends on."""
        return digest(self.model_dump(mode="json", exclude={*TOLD, "training", "augmentation", "tile_overlap"}))


def _contradictions(plan: Plan) -> Iterator[str]:
    """What is wrong between entries that are each in range, beginning with the entry's name."""
    missing = [name for name in DECISIONS if not plan.reasons.get(name)]
    if missing:
        yield f"reasons: no reason given for {', '.join(missing)}"
    channels = len(plan.channel_names)
    if CHANNELS.get(plan.input, channels) != channels:
        yield f"input: '{plan.input}' needs {CHANNELS[plan.input]} channel_names, there are {channels}"
    yield from _normalisation_contradictions(plan.normalisation, channels)
    if plan.augmentation.scale[0] > plan.augmentation.scale[1]:
        yield "augmentation.scale: the first number is above the second"
    if plan.input != "rgb" and any(getattr(plan.augmentation, name) for name in OF_COLOUR):
        yield "augmentation.tint and augmentation.stain: change colours, and the input is not rgb"
    yield from _label_contradictions(plan.targets)


def _normalisation_contradictions(normalisation: Normalisation, channels: int) -> Iterator[str]:
    needed = {"ct": ("lower", "upper", "mean", "std")}.get(normalisation.scheme, ())
    if any(low > high for low, high in zip(normalisation.lower, normalisation.upper, strict=False)):
        yield "normalisation.lower: is above normalisation.upper"
    if normalisation.scheme == "photograph" and (normalisation.mean or normalisation.std):
        needed = ("mean", "std")
    for name in needed:
        count = len(getattr(normalisation, name))
        if count != channels:
            yield f"normalisation.{name}: needs a number for each of {channels} channel_names, there are {count}"


def _label_contradictions(labels: Labels) -> Iterator[str]:
    classes = len(labels.classes)
    if len(set(labels.classes)) != classes:
        yield "labels.classes: a name occurs twice"
    for name, values in (("ids", labels.ids), ("class_values", labels.class_values)):
        if len(values) != classes:
            yield f"labels.{name}: needs one entry for each of {classes} classes, there are {len(values)}"
    ignore = () if labels.ignore is None else (labels.ignore,)
    used = {"ids": {v for values in labels.ids for v in values}, "class_values": labels.class_values, "ignore": ignore}
    for name, values in used.items():
        if not labels.declared.issuperset(values):
            yield f"labels.{name}: {min(set(values) - labels.declared)} is not among labels.declared"


def load_plan(path: Path) -> Plan:
    """Read and validate a plan. Raises UserError naming the first wrong or unknown entry."""
    value = read_json(path)
    try:
        return Plan.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        message = f"{place}: {message}" if place else message
        raise UserError(f"is not a valid plan: {message}", file=path, fix="plan the dataset again") from None


def table(plan: Plan) -> str:
    """The plan as lines 'decision  value  because reason'."""
    rows = [(name, _short(name, plan), plan.reasons[name]) for name in DECISIONS]
    left, middle = max(len(r[0]) for r in rows), max(len(r[1]) for r in rows)
    return "\n".join(f"{name:<{left}}  {value:<{middle}}  {reason}" for name, value, reason in rows)


def _short(name: str, plan: Plan) -> str:
    training = plan.training
    special = {
        "normalisation": plan.normalisation.scheme,
        "augmentation": f"rotation {plan.augmentation.rotation_degrees:g} degrees",
        "training": f"batch {training.batch_size}, {training.epochs} x {training.steps_per_epoch} steps",
        "spacing": f"{plan.spacing[0]:.3g} x {plan.spacing[1]:.3g} {plan.unit}",
        "patch_size": f"{plan.patch_size[0]} x {plan.patch_size[1]}",
        "slicing_axis": ("axial (z)", "coronal (y)", "sagittal (x)")[plan.slicing_axis],
    }
    return special.get(name) or str(getattr(plan, name))
