"""Does the GATE score of a technique tell what its features are worth?

python -m experiments.measures.gate --jobs 1
python -m experiments.measures.gate table
"""

import sys

from experiments.measures.gate import points, table
from experiments.seeded_cli import main

if __name__ == "__main__":
    sys.exit(main("experiments.measures.gate", __doc__, points, table.text))
