"""Codecs around other ones: ``EncryptingCodec(CompressingCodec(JsonCodec()), keys={"2026-11": key})``.

Compress first, then encrypt: what is encrypted cannot be compressed any more.
"""

from flowcraft.codecs.compressing import CompressingCodec
from flowcraft.codecs.encrypting import EncryptingCodec
from flowcraft.codecs.wrapping import WrappingCodec

__all__ = ["CompressingCodec", "EncryptingCodec", "WrappingCodec"]
