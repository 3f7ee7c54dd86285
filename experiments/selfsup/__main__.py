"""Self-supervised pre-training on a long tail and on as many balanced examples.

python -m experiments.selfsup --jobs 16 --seconds 120
python -m experiments.selfsup table
"""

import sys

from experiments.seeded_cli import main
from experiments.selfsup import points, table

if __name__ == "__main__":
    sys.exit(main("experiments.selfsup", __doc__, points, table.text))
