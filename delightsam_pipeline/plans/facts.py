"""The numbers by which a modality is told from pixels; `pixels.measure` takes them."""

from __future__ import annotations

from delightsam_pipeline.plans.plan import Strict


class VolumeFacts(Strict):
    """Values of the first channel.

    lowest, p01, p50, p99, p999, highest : percentiles 0 to 100.
    whole, negative, floor, ceiling : shares of whole numbers, of values below 0, at the lowest and at the highest.
    air : share between -1100 and -850. soft : share between -200 and 200 of what is over -500, and soft_peak the most
        frequent value there. offset_air, offset_soft, offset_peak : the same for CT stored with 1024 added.
    lit : share over a tenth of p999; lit_median : its median over p999; hot : share over a quarter of p999.
    between : voxels between background and the most frequent tissue, against those around that tissue.
    detail : curvature from voxel to voxel over the spread of values in a middle slice.
    spacing : the smallest, mm or pixels.
    """

    lowest: float
    p01: float
    p50: float
    p99: float
    p999: float
    highest: float
    whole: float
    negative: float
    floor: float
    ceiling: float
    air: float
    soft: float
    soft_peak: float
    offset_air: float
    offset_soft: float
    offset_peak: float
    lit: float
    lit_median: float
    hot: float
    between: float
    detail: float
    spacing: float


class PictureFacts(Strict):
    """A picture; brightness 0 to 1, shares 0 to 1, of the picture or of its field of view (what is not black).

    grey, coloured : pixels without and with clear colour. red, blue : median share of the colour in a pixel.
    tint_spread : how far the tints lie apart. warm : red over green over blue. purple : green the least.
    cold : green the most, or green and blue over red. white : white pixels; glints : those in small spots.
    corners : how black the corners are. field : share of the field of view. disc : how well its edge lies on a circle.
    sector : how steadily it widens downwards.
    rim, centre : brightness near the edge of the picture and in the middle; rim_spread : unrest of the rim.
    patch : how far what is dark is a single patch in the middle. uneven : spread of coarse brightness over its mean.
    veins : share of thin dark structures.
    ground, ground_noise : level and unrest of what lies between bright things; blobs, blob_share : how many bright
        things and how much they cover.
    mirror : likeness of left and right, -1 to 1. layered : share of brightness that rows explain.
    lungs : rows that go bright, dark, bright, dark, bright; lung_level : brightness of their dark parts; column : of
        the darkest part of the middle column.
    band : share of strips from top to bottom in which one bright band lies between dark; start : brightness of their
        upper ends against their brightest place.
    fine : share of the finest detail. lateral : log of vertical over horizontal change.
    follows : correlation of grain with brightness, -1 to 1.
    """

    grey: float
    coloured: float
    red: float
    blue: float
    tint_spread: float
    warm: float
    purple: float
    cold: float
    white: float
    glints: float
    corners: float
    field: float
    disc: float
    sector: float
    rim: float
    rim_spread: float
    centre: float
    patch: float
    uneven: float
    veins: float
    ground: float
    ground_noise: float
    blobs: float
    blob_share: float
    mirror: float
    layered: float
    lungs: float
    lung_level: float
    column: float
    band: float
    start: float
    fine: float
    lateral: float
    follows: float


class PixelFacts(Strict):
    """One case.

    dicom_modality : the Modality tag (0008,0060) of its file, empty where there is none.
    slices : 1 for a picture. picture : None for volumes and for pictures too small to look at.
    """

    dicom_modality: str = ""
    physical: bool
    channels: int
    slices: int
    picture: PictureFacts | None
    volume: VolumeFacts
