"""``python -m broker``."""

import os
import signal
import sys

# Until the daemon has a handler of its own: there is nothing to clean up yet.
if __name__ == "__main__" and sys.argv[1:2] == ["run"]:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

# Python puts the working directory first, where somebody else's module could lie in wait.
if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

from broker.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
