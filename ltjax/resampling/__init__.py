"""Resampling: which examples are drawn, and how often."""

from ltjax.resampling.cog import (
    SubClasses,
    cog,
    cog_num_clusters,
    cog_replication,
    max_rule,
    max_scores,
    sum_rule,
)
from ltjax.resampling.combined import accompanied, deferred
from ltjax.resampling.kmeans import (
    KMeans,
    kmeans,
)
from ltjax.resampling.mixup import Mixed, mixup
from ltjax.resampling.neighbors import (
    Neighbors,
    nearest_neighbors,
    same_class_neighbors,
)
from ltjax.resampling.random_resampling import (
    percent_kept,
    percent_new,
    random_oversample,
    random_undersample,
    rose_bandwidth,
    smoothed_bootstrap,
)
from ltjax.resampling.repeat_factor import repeat_factor, repeat_factors
from ltjax.resampling.samplers import (
    Sampler,
    class_aware,
    class_balanced,
    class_power,
    class_weighted,
    instance,
    progressive,
    square_root,
)
from ltjax.resampling.smote import (
    SmotePlan,
    Synthetic,
    smote,
    smote_plan,
    synthesize,
)
from ltjax.resampling.smote_nominal import (
    SyntheticMixed,
    smote_n,
    smote_nc,
    value_difference_table,
)
from ltjax.resampling.smote_variants import (
    adasyn,
    adasyn_amounts,
    borderline_smote,
)

__all__ = [
    "repeat_factor",
    "repeat_factors",
    "KMeans",
    "Mixed",
    "Neighbors",
    "Sampler",
    "SmotePlan",
    "SubClasses",
    "Synthetic",
    "SyntheticMixed",
    "accompanied",
    "adasyn",
    "adasyn_amounts",
    "borderline_smote",
    "class_aware",
    "class_balanced",
    "class_power",
    "class_weighted",
    "cog",
    "cog_num_clusters",
    "cog_replication",
    "deferred",
    "instance",
    "kmeans",
    "max_rule",
    "max_scores",
    "mixup",
    "nearest_neighbors",
    "percent_kept",
    "percent_new",
    "progressive",
    "random_oversample",
    "random_undersample",
    "rose_bandwidth",
    "same_class_neighbors",
    "smoothed_bootstrap",
    "smote",
    "smote_n",
    "smote_nc",
    "smote_plan",
    "square_root",
    "sum_rule",
    "synthesize",
    "value_difference_table",
]
