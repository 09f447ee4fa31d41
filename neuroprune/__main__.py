"""`python -m neuroprune`: the command line, which stands in `hw_targets`; nothing else of this package knows it."""

import sys

from hw_targets.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
