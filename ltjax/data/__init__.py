"""Data: long-tailed subsets, sources, augmentation on device, feeds."""

from ltjax.data.candidates import (
    CIFAR100_SUPERCLASSES,
    candidate_sets,
    candidate_subsets,
    hierarchical_ambiguity,
    label_dependent_ambiguity,
    mean_candidates,
    uniform_ambiguity,
)
from ltjax.data.catalog import DATASETS, Dataset, find_dataset
from ltjax.data.label_noise import (
    CIFAR10_CONFUSED_GROUPS,
    CIFAR10_CONFUSIONS,
    CIFAR100_CONFUSED_GROUPS,
    asymmetric_noise,
    corrupt_labels,
    group_noise,
    imbalanced_noise,
    proportional_noise,
    symmetric_noise,
)
from ltjax.data.loading import array_source, load_source, resolve_data_dir
from ltjax.data.long_tail import (
    LongTailSubset,
    long_tail_counts,
    long_tail_indices,
    long_tail_subset,
)
from ltjax.data.readers import DataError, MissingDataError
from ltjax.data.source import Source
from ltjax.data.unlabelled import (
    SEMI_SUPERVISED_PROTOCOLS,
    UNLABELLED_PROFILES,
    SemiSupervisedProtocol,
    SemiSupervisedSplit,
    labelled_share,
    semi_supervised_counts,
    semi_supervised_split,
)

__all__ = [
    "CIFAR100_CONFUSED_GROUPS",
    "CIFAR100_SUPERCLASSES",
    "CIFAR10_CONFUSED_GROUPS",
    "CIFAR10_CONFUSIONS",
    "DATASETS",
    "DataError",
    "Dataset",
    "LongTailSubset",
    "MissingDataError",
    "SEMI_SUPERVISED_PROTOCOLS",
    "SemiSupervisedProtocol",
    "SemiSupervisedSplit",
    "Source",
    "UNLABELLED_PROFILES",
    "array_source",
    "asymmetric_noise",
    "candidate_sets",
    "candidate_subsets",
    "corrupt_labels",
    "find_dataset",
    "group_noise",
    "hierarchical_ambiguity",
    "imbalanced_noise",
    "label_dependent_ambiguity",
    "labelled_share",
    "load_source",
    "long_tail_counts",
    "long_tail_indices",
    "long_tail_subset",
    "mean_candidates",
    "proportional_noise",
    "resolve_data_dir",
    "semi_supervised_counts",
    "semi_supervised_split",
    "symmetric_noise",
    "uniform_ambiguity",
]
