"""A self-configuring segmentation pipeline for medical images of any modality, around De-LightSAM."""

__version__ = "0.1.0"
