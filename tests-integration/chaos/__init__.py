"""Workers killed, ended or paused at random moments, backends in trouble, and an external checker of what came of it.

`run.py` is the program. `campaign` starts the `processes` and strikes them, `weather` does the same to the backend,
`worker` and `client` are those processes, `on_sqlite` and `on_redis` are what is particular to a backend, `shapes` draws
the runs and says what may come of them, `evidence` reads what the processes and the store recorded, `checker` judges it,
`causes` says who is to blame for a repetition, `summary` tells it.
"""

import sys
from pathlib import Path

# The oracle is a neighbour. Programs and tests alike find it by its plain name.
_NEIGHBOURS = str(Path(__file__).resolve().parent.parent)
if _NEIGHBOURS not in sys.path:
    sys.path.append(_NEIGHBOURS)
