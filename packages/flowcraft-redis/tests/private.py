"""A command with a server of its own: ``python -m packages.flowcraft-redis.tests.private valkey COMMAND …``.

The server is one of ``redis``, ``valkey`` and ``cluster`` (three nodes of Redis). The command finds its address in
FLOWCRAFT_REDIS_URL, and it ends with the command. Only ``redis`` is content with a server that is named there already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .server import Server, three_nodes, valkey_binary


@contextmanager
def private(kind: str) -> Iterator[str]:
    """The address of a server that keeps everything, as in production, and is gone after the block.

    Raises:
        SystemExit: there is no such kind of server, or it is not installed.
    """
    found = _program(kind)
    if found is None:
        raise SystemExit(f"no {kind} is installed here")
    made: list[Server] = []
    with tempfile.TemporaryDirectory(prefix=f"flowcraft-{kind}-") as folder:

        def make(*options: str) -> Server:
            made.append(Server(found, Path(folder), "--appendonly", "yes", *options))
            return made[-1]

        try:
            if kind == "cluster":
                yield three_nodes(make)[0].url
            else:
                server = make()
                server.start()
                yield server.url
        finally:
            for server in made:
                server.stop()


def _program(kind: str) -> str | None:
    if kind == "valkey":
        return valkey_binary()
    return shutil.which("redis-server") if kind in ("redis", "cluster") else None


def main(kind: str, command: Sequence[str]) -> int:
    """Run a command; its exit status."""
    if kind == "redis" and os.environ.get("FLOWCRAFT_REDIS_URL"):
        return subprocess.run(command, check=False).returncode  # noqa: S603 - what was asked for
    with private(kind) as url:
        environment = os.environ | {"FLOWCRAFT_REDIS_URL": url}
        return subprocess.run(command, check=False, env=environment).returncode  # noqa: S603 - what was asked for


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
