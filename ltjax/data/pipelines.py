"""Every augmentation pipeline by name."""

from ltjax.data import augment, pixel_pipelines, view_pipelines
from ltjax.options import Component

PIPELINES: dict[str, Component] = {
    **augment.PIPELINES,
    "scale_crop": pixel_pipelines.SCALE_CROP,
    "two_views": view_pipelines.TWO_VIEWS,
    "weak_strong": view_pipelines.WEAK_STRONG,
    "weak": view_pipelines.WEAK,
}
