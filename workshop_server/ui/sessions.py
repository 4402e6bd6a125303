"""Who has logged in: random tokens in memory, each with the key of its login. A revoked key ends its sessions."""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict

COOKIE = "session"
LIFETIME = 12 * 3600  # seconds: a day in the workshop
MOST = 10_000         # sessions; above that, the oldest end


class Sessions:
    """The sessions of one server; they end when it stops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def open(self, key: str) -> str:
        """A new session; returns the token for the cookie."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._known[_hash(token)] = (key, time.monotonic() + LIFETIME)
            while len(self._known) > MOST:
                self._known.popitem(last=False)
        return token

    def key(self, token: str | None) -> str | None:
        """The key that opened a session which has not ended; None for any other token."""
        with self._lock:
            key, end = self._known.get(_hash(token or ""), (None, 0.0))
            if key is not None and end < time.monotonic():
                del self._known[_hash(token)]
                key = None
        return key

    def close(self, token: str | None) -> None:
        with self._lock:
            self._known.pop(_hash(token or ""), None)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
