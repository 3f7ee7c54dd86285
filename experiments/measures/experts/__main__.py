"""Experts and single networks under test priors that are not known in training.

python -m experiments.measures.experts --jobs 16
python -m experiments.measures.experts table
"""

import sys

from experiments.measures.experts import points
from experiments.seeded_cli import main

if __name__ == "__main__":
    sys.exit(main("experiments.measures.experts", __doc__, points, points.GRID.text))
