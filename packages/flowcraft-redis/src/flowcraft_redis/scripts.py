"""The Lua scripts, each with the hash by which Redis knows it. Nothing of a user is ever part of their text."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

__all__ = [
    "ACQUIRE", "AFTER", "BURY", "CLAIM", "COMMIT", "CREATE", "DEFER", "DELETE", "DEPTH", "EXTEND", "HAND_BACK",
    "INCREMENT", "LOAD", "PUBLISH", "RECEIVE", "RELEASE", "RENEW", "REVOKE", "SETTLE", "TAKE", "TELL", "TEND", "Script",
]  # fmt: skip

_FOLDER: Final = files("flowcraft_redis") / "lua"
_COMMON: Final = (_FOLDER / "common.lua").read_bytes()


class Script:
    """A script in the package's folder ``lua``. ``writing``: whether it may change anything."""

    __slots__ = ("digest", "name", "text", "writing")

    def __init__(self, name: str, *, writing: bool = True) -> None:
        self.name = name
        self.writing = writing
        self.text = _COMMON + (_FOLDER / f"{name}.lua").read_bytes()
        # Redis names scripts by SHA-1: no secret depends on it.
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


CREATE: Final = Script("create")
COMMIT: Final = Script("commit")
DELETE: Final = Script("delete")
DEFER: Final = Script("defer")
LOAD: Final = Script("load", writing=False)
AFTER: Final = Script("after", writing=False)  # what it writes, it takes back
PUBLISH: Final = Script("publish")
SETTLE: Final = Script("settle")
HAND_BACK: Final = Script("handback")
BURY: Final = Script("bury")
EXTEND: Final = Script("extend")
TEND: Final = Script("tend")
RECEIVE: Final = Script("receive")
DEPTH: Final = Script("depth", writing=False)
CLAIM: Final = Script("claim")
RENEW: Final = Script("renew")
RELEASE: Final = Script("release")
REVOKE: Final = Script("revoke")
INCREMENT: Final = Script("increment")
ACQUIRE: Final = Script("acquire")
TAKE: Final = Script("take")
# Not as something that must not be sent twice: a hint may come twice, and should rather not be lost.
TELL: Final = Script("tell", writing=False)
