"""The one place where errors of redis-py become errors of Flowcraft."""

from __future__ import annotations

import asyncio

from redis import exceptions as driver

from flowcraft.errors import FlowcraftError, Misconfigured, PayloadTooLarge, Unavailable, UnknownOutcome

__all__ = ["is_moved", "is_refusal", "no_text", "translate"]

# Replies that begin with these words mean: nothing happened, and it may work later.
_AGAIN = {
    "LOADING": "is loading its data",
    "READONLY": "is a replica and takes no writes (a failover may be under way)",
    "MASTERDOWN": "is a replica that has lost its master",
    "CLUSTERDOWN": "is a cluster that is down",
    "TRYAGAIN": "is moving the keys to another node",
    "BUSY": "is busy with a long script",
    "NOREPLICAS": "has too few replicas to take writes",
    "MISCONF": "takes no writes because it cannot save to its disk",
    "OOM": "has no memory left for writes: give it more, or let runs be deleted sooner (retention)",
    "UNBLOCKED": "gave up waiting for a stream",
    "MAX": "has too many connections",
}
_NEVER = {
    "NOAUTH": "wants a password: put user and password into the address",
    "WRONGPASS": "does not accept this user and password",
    "NOPERM": "does not let this user do what Flowcraft needs: allow its commands, keys and channels by ACL",
    "WRONGTYPE": "has a key of another program under our name: choose another prefix",
    "MOVED": "is a cluster: add ?cluster=true to the address, or pass a RedisCluster client",
    "ASK": "is a cluster: add ?cluster=true to the address, or pass a RedisCluster client",
    "CROSSSLOT": "is a cluster that keeps these keys apart, which is a defect: please report it",
}
# redis-py takes the first word off the text of the replies that it has classes for.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (driver.BusyLoadingError, "LOADING"),
    (driver.ReadOnlyError, "READONLY"),
    (driver.OutOfMemoryError, "OOM"),
    (driver.MasterDownError, "MASTERDOWN"),
    (driver.ClusterDownError, "CLUSTERDOWN"),
    (driver.TryAgainError, "TRYAGAIN"),
    (driver.NoPermissionError, "NOPERM"),
    (driver.AuthenticationError, "WRONGPASS"),
    (driver.AuthenticationWrongNumberOfArgsError, "WRONGPASS"),
    (driver.AuthorizationError, "NOAUTH"),
    (driver.MovedError, "MOVED"),
    (driver.AskError, "ASK"),
    (driver.ClusterCrossSlotError, "CROSSSLOT"),
)
_BROKEN = (driver.ConnectionError, driver.TimeoutError, OSError, EOFError, asyncio.IncompleteReadError)


def is_refusal(error: BaseException) -> bool:
    """True if Redis itself answered, with an error: then nothing of the command happened."""
    return isinstance(error, driver.ResponseError | driver.BusyLoadingError)


def is_moved(error: BaseException) -> bool:
    """True if another node of the cluster is to be asked."""
    return isinstance(error, driver.AskError | driver.TryAgainError | driver.ClusterDownError)


def translate(error: BaseException, place: str, *, sent: bool) -> BaseException:
    """What to raise (``from error``) instead of an error that the Redis at ``place`` met.

    ``sent``: a write had been handed to the connection, so a broken one leaves open what became of it.
    """
    if isinstance(error, FlowcraftError) or not isinstance(error, Exception):
        return error
    word = next((word for kind, word in _WORDS if isinstance(error, kind)), str(error).partition(" ")[0])
    if word in _AGAIN:
        return Unavailable(f"the Redis at {place} {_AGAIN[word]} ({error})")
    if word in _NEVER:
        return Misconfigured(f"the Redis at {place} {_NEVER[word]} ({error})")
    if isinstance(error, driver.ResponseError):
        if "string exceeds maximum allowed size" in str(error) or "invalid bulk length" in str(error):
            return PayloadTooLarge(f"a value is larger than the Redis at {place} can store ({error})")
        return Misconfigured(f"the Redis at {place} refuses what we ask of it; 7.0 or later is needed ({error})")
    if isinstance(error, driver.RedisClusterException):
        return Unavailable(f"the cluster at {place} cannot be used at the moment ({error})")
    if isinstance(error, _BROKEN):
        if sent:
            return UnknownOutcome(f"the connection to the Redis at {place} broke before it answered ({error})")
        return Unavailable(f"the Redis at {place} cannot be reached ({error})")
    return error


def no_text(error: UnicodeEncodeError) -> str:
    """Why an id cannot be stored."""
    return f"an id, key or text cannot be stored by Redis: {error}"
