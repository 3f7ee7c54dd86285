"""ltjax: learning from imbalanced and long-tailed data in JAX."""

__version__ = "0.1.0"
