"""API keys: the key file, and the check of a key at each request.

The key file is JSON that only its owner may read. It holds no keys, only their hashes. Each name in it has its own
tenant, found by its slug: a new key for a name leads to the same tenant as the old key.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from workshop_server.errors import NotFoundError, RequestError, StartError, UnauthenticatedError
from workshop_server.store import timestamps
from workshop_server.store.database import Database, insert_new
from workshop_server.store.tables import tenant

PREFIX = "workshop_"
NAME_LENGTH = 100
PAGES = {"login", "logout", "health", "static", "graphql"}  # addresses of pages, which must not be the slug of a tenant
KEYS_OF_ONE = 20        # keys that a tenant may create for itself
MINUTE = 60.0
ADDRESSES = 10_000      # addresses whose wrong keys are counted at the same time
LOCK_SECONDS = 10.0     # longer than a change of the file takes: an older lock was left by a process that died

NO_KEY = "this server asks for an API key: prefect auth login --key KEY"
WRONG_KEY = "this API key is not known here: ask for another, then prefect auth login --key KEY"
WRONG_TENANT = "this API key is not for that tenant: log in again with prefect auth login --key KEY"
TOO_MANY = "too many wrong API keys from this address: wait a minute, and ask whether the key is right"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One key; `sha256` is of the key's text, in hexadecimal."""

    id: str
    name: str
    slug: str
    sha256: str
    created: str
    expires_at: str | None = None


def create(path: Path, name: str) -> str:
    """Add a key for a new name to the file, which is created if needed; returns the key, which is stored nowhere.

    Raises StartError if the name has a key already, or if the file cannot be read or written.
    """
    try:
        name = _checked(name)
    except RequestError as error:
        raise StartError(str(error)) from None
    entry, key = _made(name, _slug(name))

    def add(entries: list[Entry]) -> list[Entry]:
        if any(each.slug == entry.slug for each in entries):
            raise StartError(f"{path}: the tenant {entry.slug} has a key already: choose another name, or take its "
                             "entry out of the file to replace the key")
        return [*entries, entry]
    _change(path, add, new=True)
    return key


class ApiKeys:
    """The keys of a running server. The file is read again when it has changed.

    Raises StartError, in one line, if the file is missing, unreadable or damaged. If that happens while the server
    runs, the keys that were read last stay valid.
    """

    def __init__(self, path: Path, database: Database, *, wrong_keys: int = 20) -> None:
        self.path = path
        self._database = database
        self._limit = wrong_keys
        self._wrong: dict[str, tuple[float, int]] = {}  # by address: start of its minute, wrong keys since then
        self._lock = threading.Lock()
        self._signature = _signature(path)
        self._entries: dict[str, Entry] = {}
        self._tenants: dict[str, str] = {}
        self._use(_read(path))

    def tenant(self, key: str) -> str | None:
        """The id of the tenant whose key this is; None for a key that is wrong, revoked or expired."""
        entry = self._entry(key)
        return None if entry is None else self._tenants[entry.slug]

    def admit(self, key: str | None, address: str) -> str:
        """The id of the tenant whose key this is; `address` is where it came from.

        Raises UnauthenticatedError for no key and for a wrong key, and counts the wrong keys. A good key is admitted
        after any number of wrong ones, because a whole room may share one address.
        """
        if not key:
            raise UnauthenticatedError(NO_KEY)
        found = self.tenant(key)
        if found is not None:
            return found
        raise UnauthenticatedError(TOO_MANY if self._count(address) > self._limit else WRONG_KEY)

    def of_tenant(self, tenant_id: str) -> list[Entry]:
        """The tenant's keys, oldest first."""
        self._reread()
        return [entry for entry in self._entries.values() if self._tenants[entry.slug] == tenant_id]

    def add(self, tenant_id: str, name: str, expires_at: str | None) -> tuple[Entry, str]:
        """Create another key for a tenant that has one; returns its entry, and the key.

        Raises RequestError if the tenant has too many. Do not call methods of this class inside a transaction: new
        entries in the file may need their own.
        """
        slug = next(slug for slug, known in self._tenants.items() if known == tenant_id)
        entry, key = _made(_checked(name), slug, expires_at)

        def add(entries: list[Entry]) -> list[Entry]:
            if sum(each.slug == entry.slug for each in entries) >= KEYS_OF_ONE:
                raise RequestError(f"a tenant may have {KEYS_OF_ONE} API keys: revoke one first")
            return [*entries, entry]
        self._write(add)
        return entry, key

    def revoke(self, tenant_id: str, key_id: str) -> None:
        """Revoke a key of the tenant; raises NotFoundError if it has no key with this id."""
        mine = {entry.id for entry in self.of_tenant(tenant_id)}
        if key_id not in mine:
            raise NotFoundError(f"API key {key_id} not found")
        self._write(lambda entries: [entry for entry in entries if entry.id != key_id])

    def _entry(self, key: str) -> Entry | None:
        self._reread()
        # The time of the look-up depends on the hash, but nobody can choose a hash: it tells nothing about a key.
        entry = self._entries.get(_hash(key))
        if entry is None or (entry.expires_at is not None and entry.expires_at <= timestamps.now()):
            return None
        return entry

    def _count(self, address: str) -> int:
        """Count a wrong key; returns how many came from this address in this minute."""
        with self._lock:
            now = time.monotonic()
            start, count = self._wrong.pop(address, (now, 0))
            if now - start > MINUTE:
                start, count = now, 0
            while len(self._wrong) >= ADDRESSES:
                del self._wrong[next(iter(self._wrong))]  # the address whose last wrong key is oldest
            self._wrong[address] = start, count + 1
        if count == self._limit:
            logger.warning("%s sends wrong API keys", address)
        return count + 1

    def _reread(self) -> None:
        signature = _signature(self.path)
        if signature == self._signature:
            return
        with self._lock:
            self._signature = signature
            try:
                self._use(_read(self.path))
            except StartError as error:
                logger.warning("%s; the keys read last stay good", error)
            except sa.exc.SQLAlchemyError:
                self._signature = None  # so that the next request tries again
                logger.exception("new API keys cannot be used yet")

    def _use(self, entries: list[Entry]) -> None:
        slugs = {entry.slug: entry.name for entry in entries}
        missing = slugs.keys() - self._tenants.keys()
        if missing:
            with self._database.write() as conn:
                for slug in missing:
                    insert_new(conn, tenant, name=slugs[slug], slug=slug)
                known = dict(conn.execute(sa.select(tenant.c.slug, tenant.c.id)).all())
            self._tenants = {**self._tenants, **{slug: known[slug] for slug in missing}}
        self._entries = {entry.sha256: entry for entry in entries}

    def _write(self, change: Callable[[list[Entry]], list[Entry]]) -> None:
        try:
            _change(self.path, change)
        except StartError as error:
            logger.warning("%s", error)
            raise RequestError("the server cannot change its key file: ask the person who runs it") from None
        self._reread()


def _made(name: str, slug: str, expires_at: str | None = None) -> tuple[Entry, str]:
    key = PREFIX + secrets.token_urlsafe(32)
    return Entry(str(uuid4()), name, slug, _hash(key), timestamps.now(), expires_at), key


def _hash(key: str) -> str:
    """One SHA-256 is enough: a key has 256 random bits, too many to guess, so a slow hash is not needed."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def _checked(name: str) -> str:
    name = name.strip()
    if not name or len(name) > NAME_LENGTH or not name.isprintable():
        raise RequestError(f"the name of a key is 1 to {NAME_LENGTH} characters that can be printed")
    return name


def _slug(name: str) -> str:
    """`Ada Lovelace` becomes `ada-lovelace`; a name without Latin letters or digits becomes `tenant-` and a hash."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or f"tenant-{_hash(name)[:8]}"
    return f"{slug}-tenant" if slug in PAGES else slug


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 (a third of the time of Path.stat, for each request)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> list[Entry]:
    try:
        return [_entry(**entry) for entry in json.loads(path.read_text("utf-8"))["keys"]]
    except FileNotFoundError:
        raise StartError(f"{path}: no such key file: python -m workshop_server create-key NAME "
                         f"--api-keys {path}") from None
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}: the key file cannot be read") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StartError(f"{path}: damaged, or not a key file: bring back a copy, or make another with "
                         "python -m workshop_server create-key NAME") from None


def _entry(expires_at: str | None = None, **texts: str) -> Entry:
    if not all(isinstance(text, str) for text in (*texts.values(), expires_at or "")):
        raise TypeError
    return Entry(**texts, expires_at=expires_at)


def _change(path: Path, change: Callable[[list[Entry]], list[Entry]], *, new: bool = False) -> None:
    """Rewrite the file, completely or not at all; changes of two processes at the same time are both kept."""
    path = path.resolve()  # so that a link stays a link
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            entries = change([] if new and not path.exists() else _read(path))
            text = json.dumps({"keys": [asdict(entry) for entry in entries]}, indent=1)
            try:
                with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w",  # noqa: PTH123 (the mode)
                          encoding="utf-8") as file:
                    file.write(text + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}: the key file cannot be written") from None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock = path.with_name(f".{path.name}.lock")
    while True:
        try:
            os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            break
        except FileExistsError:
            with suppress(FileNotFoundError):
                if time.time() - lock.stat().st_mtime > LOCK_SECONDS:
                    lock.unlink(missing_ok=True)
            time.sleep(0.01)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
