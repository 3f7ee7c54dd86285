"""Permuted, rotated and aligned frames: margins of the terminal phase, and accuracy.

python -m experiments.measures.collapse --jobs 1
python -m experiments.measures.collapse table
"""

import sys

from experiments.measures.collapse import points
from experiments.measures.collapse.table import text
from experiments.seeded_cli import main

if __name__ == "__main__":
    sys.exit(main("experiments.measures.collapse", __doc__, points, text))
