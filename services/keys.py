"""Keys derived from the installation's secret: signing, encryption at rest, keyed digests."""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES = 12


class Keys:
    """One secret, one derived key per purpose."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._cipher = AESGCM(self.derive("encryption at rest"))
        self.signing = self.derive("access tokens")
        self._digests = self.derive("digests")

    def derive(self, purpose: str) -> bytes:
        return HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(self._secret)

    def encrypt(self, text: str, binding: str) -> bytes:
        """Encrypts for storage. ``binding`` names the place, so that a value cannot be moved to another."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), binding.encode())

    def decrypt(self, stored: bytes, binding: str) -> str:
        """Raises ValueError when the value was not encrypted for this place by this secret."""
        try:
            plain = self._cipher.decrypt(stored[:NONCE_BYTES], stored[NONCE_BYTES:], binding.encode())
        except InvalidTag:
            raise ValueError("the stored secret cannot be read with this installation's key") from None
        return plain.decode()

    def digest(self, text: str) -> bytes:
        return hmac.digest(self._digests, text.encode(), hashlib.sha256)
