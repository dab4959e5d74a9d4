"""Values that nobody can read without a key."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from typing import Final, Protocol, cast

from flowcraft.codec import Codec
from flowcraft.codecs.wrapping import WrappingCodec
from flowcraft.errors import InvalidRequest, KeyMissing, Misconfigured, SerializationError, Tampered

__all__ = ["EncryptingCodec"]

#: How an encrypted value begins, see `Codec`. Then: length of the key's id, the id, four bytes that tell whether a key
#: is the one, all of this authenticated; a nonce; what AES-GCM makes, with its tag at the end.
_MARK: Final = b"\xfce\x01"
_CHECK: Final = 4
_NONCE: Final = 12
_TAG: Final = 16
_KEY: Final = 32
_LONGEST_ID: Final = 64


class EncryptingCodec(WrappingCodec):
    """Encrypts every value with AES-256-GCM, each with a random nonce. Needs the extra ``flowcraft-core[crypto]``.

    Args:
        inner: makes the bytes that are encrypted.
        keys: by id, which is stored in the clear (at most 64 characters); 32 bytes each, from
            ``secrets.token_bytes(32)``. The first encrypts, all decrypt. To rotate, in this order: give all processes
            the new key as the last one, then as the first one; remove the old one when no run uses it any more.

    Raises:
        Misconfigured: the library is not installed. InvalidRequest: no key, or an unusable id or key.
    """

    def __init__(self, inner: Codec, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise InvalidRequest("EncryptingCodec needs at least one key: {'2026-11': secrets.token_bytes(32)}")
        self._keys = {key_id: _Key(key_id, secret) for key_id, secret in keys.items()}
        self._first = next(iter(self._keys.values()))
        super().__init__(inner, overhead=len(self._first.header) + _NONCE + _TAG)

    def __repr__(self) -> str:
        return f"EncryptingCodec({self.inner!r}, keys=<{', '.join(self._keys)}>)"

    @property
    def confidential(self) -> bool:
        """True."""
        return True

    def encode(self, value: object) -> bytes:
        """See `Codec`. Equal values give other bytes each time."""
        return self._first.encrypted(self.inner.encode(value))

    def decode(self, data: bytes) -> object:
        """See `Codec`. What is not encrypted is refused, too: anybody could have put it there.

        Raises:
            KeyMissing: it is encrypted with another key. Tampered: it was changed. Neither tells anything of the value.
        """
        if not isinstance(data, bytes):
            raise SerializationError(f"$: stored values are bytes, not {type(data).__name__}")
        if not data.startswith(_MARK):
            raise Misconfigured("this value was stored without encryption, by a process with another codec")
        end = len(_MARK) + 1 + data[len(_MARK)] if len(data) > len(_MARK) else 0
        if not end or len(data) < end + _CHECK + _NONCE + _TAG:
            raise Tampered("$: this encrypted value is cut")
        key_id = data[len(_MARK) + 1 : end].decode("utf-8", "replace")
        key = self._key(key_id)
        if not data.startswith(key.header):
            told = f"the key {key_id!r} of this process is not the key {key_id!r} that a value was encrypted with"
            raise KeyMissing(told, key_id=key_id)
        return self.inner.decode(key.decrypted(data))

    def fingerprint(self, *values: object, like: str = "") -> str:
        """See `Codec`: an HMAC of the fingerprint by ``inner``, with the first key, or the one that ``like`` names.

        So a start is recognised for as long as the key that it was made with is still among the keys.
        """
        key_id, colon, _ = like.rpartition(":")
        key = self._key(key_id) if colon else self._first
        return f"{key.id}:{key.print_of(self.inner.fingerprint(*values))}"

    def _key(self, key_id: str) -> _Key:
        key = self._keys.get(key_id)
        if key is None:
            known = ", ".join(map(repr, self._keys))
            raise KeyMissing(f"the key {key_id!r} is not here (there is {known})", key_id=key_id)
        return key


class _Cipher(Protocol):
    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...
    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...


class _Key:
    """One secret, and what is derived from it: a key for each purpose, so that none of them tells of another."""

    __slots__ = ("_cipher", "_invalid", "_prints", "header", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        name = key_id.encode() if isinstance(key_id, str) and key_id.isprintable() else b""
        if not 0 < len(name) <= _LONGEST_ID:
            raise InvalidRequest(f"a key's id is printable text of 1 to {_LONGEST_ID} bytes, not {key_id!r}")
        if not isinstance(secret, bytes) or len(secret) != _KEY:
            raise InvalidRequest(f"the key {key_id!r} must be {_KEY} bytes: make one with secrets.token_bytes({_KEY})")
        self.id = key_id
        check = _derived(secret, b"check")[:_CHECK]
        self.header = b"".join((_MARK, len(name).to_bytes(1, "big"), name, check))
        self._prints = _derived(secret, b"fingerprint")
        self._cipher, self._invalid = _aes_gcm(_derived(secret, b"encrypt"))

    def encrypted(self, data: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return b"".join((self.header, nonce, self._cipher.encrypt(nonce, data, self.header)))

    def decrypted(self, data: bytes) -> bytes:
        start = len(self.header)
        try:
            return self._cipher.decrypt(data[start : start + _NONCE], data[start + _NONCE :], self.header)
        except self._invalid:
            raise Tampered(f"$: a value that was encrypted with the key {self.id!r} has been changed") from None

    def print_of(self, text: str) -> str:
        return hmac.digest(self._prints, text.encode(), "sha256").hex()


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, b"flowcraft " + purpose, "sha256")


def _aes_gcm(key: bytes) -> tuple[_Cipher, type[Exception]]:
    """The cipher, and what it raises for bytes that it never made."""
    try:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra: only whoever encrypts needs it
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - likewise
    except ImportError as error:
        told = "EncryptingCodec needs the package cryptography: pip install 'flowcraft-core[crypto]'"
        raise Misconfigured(told) from error
    return cast("_Cipher", AESGCM(key)), InvalidTag
