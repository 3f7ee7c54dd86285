"""Every augmentation pipeline by name."""

from ltjax.data import augment, view_pipelines
from ltjax.options import Component

PIPELINES: dict[str, Component] = {
    **augment.PIPELINES,
    "two_views": view_pipelines.TWO_VIEWS,
    "weak_strong": view_pipelines.WEAK_STRONG,
    "weak": view_pipelines.WEAK,
}
