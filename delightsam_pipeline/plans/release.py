"""Plans for the checkpoints of De-LightSAM's authors: what each of their six modalities is to be fed, and why.

What the authors' public repository (xq141839/De-LightSAM) does: its loader to a picture, its training script to the
weights. Data and numbers of pictures are those of the paper (Xu et al., IEEE TCSVT 2025).
"""

from __future__ import annotations

from dataclasses import dataclass

from delightsam_pipeline.plans.modalities import lookup
from delightsam_pipeline.plans.plan import Augmentation, LabelEntries, Normalisation, Plan, Training

SIDE = 1024
_MEAN = [123.675, 116.28, 103.53]
_BATCH = 4


@dataclass(frozen=True)
class _Source:
    """What a release checkpoint was trained on: data, training pictures, and the one target."""

    dataset: str
    pictures: int
    target: str


_SOURCES = {
    "dermoscopy": _Source("ISIC-2018", 2594, "skin lesion"),
    "X-ray": _Source("Shenzhen and Montgomery", 563, "lungs"),
    "ultrasound": _Source("UDIAT-B", 130, "breast lesion"),
    "fundus": _Source("DRIVE", 16, "vessels"),
    "microscopy": _Source("DSB-2018", 536, "nuclei"),
    "endoscopy": _Source("CVC-ClinicDB", 490, "polyp"),
}
RELEASE_MODALITIES = tuple(_SOURCES)  # in the order of their ids
_REASONS = {
    "slicing_axis": "pictures are single slices",
    "input": "the weights know three colours; a grey picture goes in as three equal ones",
    "scaling": "the weights know one size; the aspect is kept, and the margin goes on with the picture's edge",
    "spacing": "pictures carry none, and each is scaled until it fits",
    "patch_size": "what the weights were trained at",
    "tile_overlap": "a picture that fits is one tile",
    "normalisation": "the authors' loader divides by the mean in the place of the deviation, and the weights know that",
    "resampling": "the authors do not say how theirs were brought to size; shrinking takes the mean of what is covered",
    "augmentation": "the authors' loader feeds each picture as it is; nothing of this is used to predict",
}


def release_plan(modality: str) -> Plan:
    """The plan of one of RELEASE_MODALITIES, whose head a release checkpoint gives; KeyError for any other name."""
    source, row = _SOURCES[modality], lookup(modality)
    return Plan(
        dataset=source.dataset,
        modality=row.name,
        modality_id=row.id,
        channel_names=["R", "G", "B"],
        labels=LabelEntries(classes=[source.target], ids=[[1]], class_values=[1], declared=[0, 1], ignore=None),
        file_ending=".png",
        physical=False,
        slicing_axis=0,
        input="rgb",
        scaling="fit",
        spacing=(1.0, 1.0),
        patch_size=(SIDE, SIDE),
        tile_overlap=0.0,
        normalisation=Normalisation(scheme="photograph", mean=_MEAN, std=_MEAN),
        resampling="linear",
        augmentation=Augmentation(rotation_degrees=0, scale=(1, 1), flips=(False, False), colour=False),
        training=_training(source),
        reasons=_REASONS
        | {
            "modality": f"given with the checkpoint; number {row.id} in the release",
            "training": f"as in the authors' script on the {source.pictures} training pictures of {source.dataset}: "
            "Adam at one rate that falls 2 % an epoch, no patch loss; nothing of this is used to predict",
        },
    )


def _training(source: _Source) -> Training:
    """The authors' distillation, as far as a plan can say it."""
    return Training(
        epochs=200,
        steps_per_epoch=source.pictures // _BATCH,
        batch_size=_BATCH,
        learning_rate=5e-4,
        weight_decay=0,
        warmup=0,
        foreground_share=0,
        patch_loss_weight=0,
    )
