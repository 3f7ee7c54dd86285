"""Surrogates of the AUC against cross-entropy, judged by areas over pairs of classes.

python -m experiments.measures.auc --jobs 1
python -m experiments.measures.auc table
"""

import sys

from experiments.measures.auc import points
from experiments.seeded_cli import main

if __name__ == "__main__":
    sys.exit(main("experiments.measures.auc", __doc__, points, points.GRID.text))
