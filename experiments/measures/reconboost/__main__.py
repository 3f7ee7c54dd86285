"""ReconBoost against joint training and late fusion, image and signal of a digit.

python -m experiments.measures.reconboost --jobs 4
python -m experiments.measures.reconboost table
"""

import sys

from experiments.measures.reconboost import points
from experiments.seeded_cli import main

if __name__ == "__main__":
    sys.exit(main("experiments.measures.reconboost", __doc__, points, points.GRID.text))
