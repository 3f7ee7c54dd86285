"""The area under the top-k curve as a loss, judged by six measures.

python -m experiments.measures.autkc --jobs 1
python -m experiments.measures.autkc table
"""

import sys

from experiments.measures.autkc import points
from experiments.seeded_cli import main

if __name__ == "__main__":
    sys.exit(main("experiments.measures.autkc", __doc__, points, points.GRID.text))
