"""ReconBoost against joint training and late fusion, image and signal of a digit.

python -m experiments.measures.reconboost --jobs 4
python -m experiments.measures.reconboost table
"""

import sys

from experiments.measures.reconboost import points, table
from experiments.seeded_cli import main

if __name__ == "__main__":
    sys.exit(main("reconboost", __file__, __doc__, points, table))
