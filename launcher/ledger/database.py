"""One SQLite connection for all threads of a process: whole transactions, one clear error."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from launcher.errors import LauncherError
from launcher.ledger import files

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


class Database:
    """`folder`/ledger.sqlite3, opened (and made) at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._open: sqlite3.Connection | None = None
        self.read(lambda db: None)

    def close(self) -> None:
        with self._lock:
            if self._open:
                self._open.close()
            self._open = None

    def write(self, work: Work[T]) -> T:
        """`work` in one transaction that nobody else interleaves with; durable when this returns."""

        def transaction(db: sqlite3.Connection) -> T:
            db.execute("BEGIN IMMEDIATE")
            try:
                result = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return result

        return self.read(transaction)

    def read(self, work: Work[T]) -> T:
        """Run `work`; on a full disk once more after giving up the reserve."""
        with self._lock:
            try:
                try:
                    return work(self._connection())
                except sqlite3.Error as e:
                    if _code(e) not in NO_ROOM or not files.give_reserve(self.folder):
                        raise
                self.close()
                return work(self._connection())
            except sqlite3.Error as e:
                raise self._trouble(e) from e
            except OSError as e:
                raise LauncherError(f"cannot use {self.folder}: {e.strerror}", "set LAUNCHER_HOME") from e

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            self._open = files.open_database(self.folder)
        return self._open

    def _trouble(self, error: sqlite3.Error) -> LauncherError:
        path = self.folder / files.DATABASE
        if _code(error) in NO_ROOM:
            return LauncherError(
                f"cannot write {path}: {error}", f"free some space on the disk of {self.folder}"
            )
        if _code(error) == sqlite3.SQLITE_BUSY:
            return LauncherError(
                f"{path} has been held by another launcher for 30 s", "is one of them stopped?"
            )
        return LauncherError(f"cannot use {path}: {error}", "restore it from a backup, or move it away")


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF  # the low byte is the kind, the rest its detail
