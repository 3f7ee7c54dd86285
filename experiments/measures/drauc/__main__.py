"""Areas under the ROC curve on corrupted digits, trained with and without attacks.

python -m experiments.measures.drauc --jobs 1
python -m experiments.measures.drauc table
"""

import sys

from experiments.measures.drauc import points
from experiments.seeded_cli import main

if __name__ == "__main__":
    sys.exit(main("experiments.measures.drauc", __doc__, points, points.GRID.text))
