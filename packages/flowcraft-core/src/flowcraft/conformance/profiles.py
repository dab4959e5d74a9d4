"""Profiles: which checks count. A check belongs to the profile that was current when it was written, and to later ones.

Whoever pins a profile is never met by a new check.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flowcraft.conformance.checks import FIRST_PROFILE, Check
from flowcraft.errors import InvalidRequest

__all__ = ["LATEST", "PROFILES", "in_profile"]

#: All profiles, oldest first.
PROFILES: Final = (FIRST_PROFILE,)
LATEST: Final = PROFILES[-1]


def in_profile(checks: Iterable[Check], profile: str) -> tuple[Check, ...]:
    """The checks that count in a profile, in their order.

    Raises:
        InvalidRequest: there is no such profile.
    """
    if profile not in PROFILES:
        raise InvalidRequest(f"there is no profile {profile!r} (there are: {', '.join(PROFILES)})")
    newest = _number(profile)
    return tuple(check for check in checks if _number(check.since) <= newest)


def _number(profile: str) -> tuple[int, ...]:
    return tuple(map(int, profile.split(".")))
