"""The file of a run's record: its lock, and opening it in folders that may be read-only.

One process writes at a time, under a lock that the kernel releases however the process ends; any number may read
meanwhile. A full disk raises an error and loses nothing already written.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from alphamix.ensemble.store.rows import StoreError
from alphamix.ensemble.store.schema import make_tables, prepare_reading

_SECONDS_BETWEEN_TRIES = 0.05
_REFUSED_BY_THE_DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


class StoreLostError(OSError):
    """Nothing can be written any more (the disk is full, say); what was written before is kept."""


def open_for_writing(path: Path, resources: ExitStack) -> sqlite3.Connection:
    """Open a record, made if it does not exist. It stays open, and locked, until `resources` closes.

    Raises:
        StoreError: another process is writing it, its format is another, or it is not a record.
        StoreLostError: the folder cannot be written.
    """
    resources.enter_context(_sole_writer(path))
    with _errors_named(path):
        db = resources.enter_context(closing(_connect(path, "mode=rwc")))
        with refusals_named(path):
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")  # a power cut may undo the last commits; a kill undoes none
            make_tables(db, path)
            db.execute("PRAGMA foreign_keys=ON")
        return db


def open_for_reading(path: Path, resources: ExitStack) -> sqlite3.Connection:
    """Open a record read-only, perhaps while another process writes it. Threads may share the connection.

    Raises:
        StoreError: its format is another, or it is not a record.
    """
    with _errors_named(path):
        db = resources.enter_context(closing(_connect(path, "mode=ro")))
        try:
            db.execute("SELECT COUNT(*) FROM sqlite_master")
        except sqlite3.OperationalError:
            # SQLite locks a reader through files beside the record, which it may not make in this folder.
            log = path.with_name(f"{path.name}-wal")
            if log.exists() and log.stat().st_size:
                raise StoreError(
                    f"{path} was interrupted, and cannot be repaired in a folder that is not writable: copy it, "
                    f"together with {log.name}, to a folder that you can write to"
                ) from None
            db = resources.enter_context(closing(_connect(path, "mode=ro&immutable=1")))
        prepare_reading(db, path)
        return db


def _connect(path: Path, query: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?{query}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread="mode=ro" not in query)


@contextmanager
def _errors_named(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} cannot be opened as a run's record ({error}): give a run's folder, or remove the file if it is "
            "damaged"
        ) from error


@contextmanager
def refusals_named(path: Path) -> Generator[None]:
    """Raise StoreLostError where the disk refuses a write."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _REFUSED_BY_THE_DISK:
            raise
        raise StoreLostError(f"{path} cannot be written ({error}); what it holds is kept") from error


def is_at_work(path: Path) -> bool:
    """Return whether a process has a record open for writing now."""
    try:
        file = os.open(_lock_of(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


@contextmanager
def _sole_writer(path: Path) -> Generator[None]:
    """Hold a lock that the kernel releases however this process ends."""
    try:
        file = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StoreLostError(f"{path.parent} cannot be written ({error.strerror})") from error
    try:
        if not _locked(file):
            raise StoreError(
                f"another process is working on {path.parent}: wait for it, or give another --output-dir (in Python: "
                "output_dir)"
            )
        yield
    finally:
        os.close(file)


def _locked(file: int) -> bool:
    """Try to lock a file, several times, since `is_at_work` locks it for an instant."""
    for last in (False, False, False, True):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not last:
                time.sleep(_SECONDS_BETWEEN_TRIES)
    return False
