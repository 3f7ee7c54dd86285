"""Top-K pairwise ranking against losses of single labels, by measures of rankings.

python -m experiments.measures.tkpr --jobs 1
python -m experiments.measures.tkpr table
"""

import sys

from experiments.measures.tkpr import points
from experiments.seeded_cli import main

if __name__ == "__main__":
    sys.exit(main("experiments.measures.tkpr", __doc__, points, points.GRID.text))
