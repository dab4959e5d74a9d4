"""What codecs around another one have in common."""

from __future__ import annotations

from flowcraft.codec import Codec

__all__ = ["WrappingCodec"]


class WrappingCodec:
    """A codec that leaves everything to ``inner``: override `encode` and `decode` to change the bytes.

    See `Codec`. ``overhead``: so many bytes may an encoded value be longer than that of ``inner``.
    """

    def __init__(self, inner: Codec, *, overhead: int = 0) -> None:
        self.inner = inner
        self._overhead = overhead

    @property
    def confidential(self) -> bool:
        """That of ``inner``."""
        return self.inner.confidential

    @property
    def max_bytes(self) -> int:
        """That of ``inner``, and the overhead."""
        return self.inner.max_bytes + self._overhead

    def encode(self, value: object) -> bytes:
        """See `Codec`."""
        return self.inner.encode(value)

    def decode(self, data: bytes) -> object:
        """See `Codec`."""
        return self.inner.decode(data)

    def snapshot(self, value: object) -> object:
        """Like that of ``inner``: what a run in process does not store is neither compressed nor encrypted."""
        return self.inner.snapshot(value)

    def convert(self, value: object, annotation: object) -> object:
        """See `Codec`."""
        return self.inner.convert(value, annotation)

    def register(self, cls: type, *, name: str | None = None) -> None:
        """See `Codec`."""
        self.inner.register(cls, name=name)

    def fingerprint(self, *values: object, like: str = "") -> str:
        """See `Codec`. Of the values, not of the bytes that this codec makes of them."""
        return self.inner.fingerprint(*values, like=like)
