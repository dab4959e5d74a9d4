"""Flowcraft on Redis or Valkey: job queue, run store, coordination and events, with nothing else to run.

Every commit of a run is one Lua script, which changes the run, its indexes, its values and its history, pushes the jobs
that became ready and acks the delivery: all of it happens, or nothing.
"""

from flowcraft_redis.adapter import RedisAdapter, create_redis_reconciler, open_adapter
from flowcraft_redis.backend import RedisBackend
from flowcraft_redis.context import RedisContext
from flowcraft_redis.coordination import RedisCoordinationStore
from flowcraft_redis.events import RedisEventBus
from flowcraft_redis.queue import RedisJobQueue
from flowcraft_redis.store import RedisRunStore

__all__ = [
    "RedisAdapter",
    "RedisBackend",
    "RedisContext",
    "RedisCoordinationStore",
    "RedisEventBus",
    "RedisJobQueue",
    "RedisRunStore",
    "create_redis_reconciler",
    "open_adapter",
]
