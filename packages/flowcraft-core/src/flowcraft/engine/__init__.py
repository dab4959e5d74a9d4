"""The engine: the pure part, from events to effects."""

__all__: list[str] = []
