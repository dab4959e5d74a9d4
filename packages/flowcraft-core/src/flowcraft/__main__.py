"""``python -m flowcraft``: the same as the command ``flowcraft``."""

import sys

from flowcraft.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
