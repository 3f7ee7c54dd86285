"""`python -m ltjax` is the `ltjax` command."""

import sys

from ltjax.cli import main

if __name__ == "__main__":
    sys.exit(main())
