"""JSON text without spaces, in ASCII: what heads, messages and events are stored and told as.

`json.dumps` makes an encoder for each call that wants no spaces, which takes longer than encoding a small row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from typing import Final

__all__ = ["compact", "quoted"]

#: Any JSON value as text.
compact: Final[Callable[[object], str]] = json.JSONEncoder(separators=(",", ":")).encode
#: A text in its quotes, for a row whose other parts are known.
quoted: Final[Callable[[str], str]] = encode_basestring_ascii
