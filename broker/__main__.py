"""``python -m broker``."""

import sys

# Python puts the working directory first, where somebody else's module could lie in wait.
if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

from broker.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
