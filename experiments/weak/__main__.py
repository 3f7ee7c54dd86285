"""Semi-supervised learning, partial labels and noisy labels on a long tail.

python -m experiments.weak --jobs 16 --seconds 240
python -m experiments.weak table
"""

import sys

from experiments.seeded_cli import main
from experiments.weak import points, table

if __name__ == "__main__":
    sys.exit(main("experiments.weak", __doc__, points, table.text))
