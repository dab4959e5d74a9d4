"""A limit of rate as coordination stores keep it: one number for each bucket, the time at which it is full."""

from __future__ import annotations

from flowcraft.errors import InvalidRequest

__all__ = ["check_limit", "take_token"]


def check_limit(rate: float, per: float, burst: int) -> None:
    """Refuse a limit that can never let anything through.

    Raises:
        InvalidRequest: it can not.
    """
    if not (rate > 0 and per > 0 and burst >= 1):
        raise InvalidRequest(f"a rate limit needs rate > 0, per > 0 and burst >= 1, not {rate}, {per} and {burst}")


def take_token(full_at: float | None, now: float, interval: float, burst: int) -> tuple[float, float]:
    """One step of a token bucket that is kept as the time at which it is full: (the new time, seconds to wait).

    One token comes every ``interval`` seconds; at most ``burst`` are saved up. ``full_at`` is None where nothing is
    stored, which is a full bucket: so a stored time may be forgotten once it is over. Where there is a wait, nothing
    is taken, and nothing is to be stored.
    """
    start = now if full_at is None else max(full_at, now)
    wait = start + interval - now - interval * burst
    # A caller that waited as told must not be sent away for the last bit of a float.
    if wait > 1e-6 * interval:
        return start, wait
    return start + interval, 0.0
