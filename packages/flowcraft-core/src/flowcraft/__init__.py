"""Flowcraft: workflows as data, run in one process, on an embedded durable store, or on many workers."""

from flowcraft.blueprint import ALL, ANY, Blueprint, Edge, Join, Node, Retry
from flowcraft.codec import JsonCodec
from flowcraft.errors import FatalError, FlowcraftError
from flowcraft.flow import Flow
from flowcraft.limit import Limit
from flowcraft.middleware import Middleware
from flowcraft.nodes import ClassNode, NodeContext, Result
from flowcraft.results import RunResult
from flowcraft.runtime import FlowRuntime
from flowcraft.single import job

__all__ = [
    "ALL",
    "ANY",
    "Blueprint",
    "ClassNode",
    "Edge",
    "FatalError",
    "Flow",
    "FlowRuntime",
    "FlowcraftError",
    "Join",
    "JsonCodec",
    "Limit",
    "Middleware",
    "Node",
    "NodeContext",
    "Result",
    "Retry",
    "RunResult",
    "job",
]
