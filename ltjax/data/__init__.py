"""Data: long-tailed subsets, sources, augmentation on device, feeds."""

from ltjax.data.long_tail import (
    LongTailSubset,
    long_tail_counts,
    long_tail_indices,
    long_tail_subset,
)
from ltjax.data.source import (
    DATASETS,
    DataError,
    Dataset,
    MissingDataError,
    Source,
    array_source,
    find_dataset,
    load_source,
    resolve_data_dir,
)

__all__ = [
    "DATASETS",
    "DataError",
    "Dataset",
    "LongTailSubset",
    "MissingDataError",
    "Source",
    "array_source",
    "find_dataset",
    "load_source",
    "long_tail_counts",
    "long_tail_indices",
    "long_tail_subset",
    "resolve_data_dir",
]
