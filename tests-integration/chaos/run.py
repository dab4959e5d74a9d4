"""The program: ``python tests-integration/chaos/run.py sqlite --runs 300 --processes 3 --kills 30 --signal KILL``.

Ends with 0 if every promise was kept, with 1 if one was broken, with 2 if the command is wrong. ``--help`` tells the
options.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from chaos.program import main

    sys.exit(main())
