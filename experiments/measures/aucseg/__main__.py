"""Pixel-level AUC and a memory of tail classes for segmentation, by class group.

python -m experiments.measures.aucseg --jobs 1
python -m experiments.measures.aucseg table
"""

import sys

from experiments.measures.aucseg import points
from experiments.seeded_cli import main

if __name__ == "__main__":
    sys.exit(main("experiments.measures.aucseg", __doc__, points, points.GRID.text))
