"""The files under $LAUNCHER_HOME: a private folder, a database that appears whole, a reserve."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path

from launcher.agent import records
from launcher.errors import LauncherError

DATABASE = "ledger.sqlite3"
RESERVE = "reserve"
RESERVE_BYTES = 1 << 20
ROOM_BYTES = 64 << 20  # the reserve is laid down again once so much is free
VERSION = 1  # PRAGMA user_version

SCHEMA = """
CREATE TABLE runs (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, created_at TEXT NOT NULL, home TEXT NOT NULL,
    spec TEXT NOT NULL, facts TEXT NOT NULL, parent TEXT);
CREATE INDEX runs_by_name ON runs (name, position);
CREATE TABLE segments (
    run_id TEXT NOT NULL REFERENCES runs (id), number INTEGER NOT NULL, target TEXT NOT NULL,
    handle TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, exit_code INTEGER,
    first_seq INTEGER NOT NULL, log_base_bytes INTEGER NOT NULL, created_at TEXT NOT NULL,
    started_at TEXT, ended_at TEXT, released_at TEXT, unreachable_since TEXT, handed_over INTEGER NOT NULL,
    PRIMARY KEY (run_id, number)) WITHOUT ROWID;
CREATE TABLE resources (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL, segment INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
    nonce TEXT NOT NULL, paid INTEGER NOT NULL, detail TEXT NOT NULL,
    intended_at TEXT NOT NULL, confirmed_at TEXT, released_at TEXT);
CREATE INDEX resources_open ON resources (run_id) WHERE released_at IS NULL;
CREATE TABLE events (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL, time TEXT NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX events_by_run ON events (run_id, row);
"""

# From an older version to the next: {1: "ALTER TABLE …"} once there is a version 2.
UPGRADES: dict[int, str] = {}


def private_folder(path: Path) -> None:
    """`path` as a folder of mode 0700 that is ours; a link in its place or another's folder is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        records.sync_folder(str(path.parent))
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise LauncherError(
            f"{path} is not a folder", "set LAUNCHER_HOME to a folder of yours, not to a link"
        )
    if found.st_uid != os.geteuid():
        raise LauncherError(f"{path} belongs to another user", "set LAUNCHER_HOME to a folder of yours")
    if found.st_mode & 0o077:
        path.chmod(0o700)


def open_database(folder: Path) -> sqlite3.Connection:
    """A connection whose every commit is on the disk when it returns; made on first use."""
    private_folder(folder)
    path = folder / DATABASE
    if path.is_symlink():
        raise LauncherError(f"{path} is a link", "remove it: the ledger is a file of its own")
    if not path.exists():
        _create(path)
    keep_reserve(folder)
    db = _connect(path)
    try:
        _check_version(db, path)
    except BaseException:
        db.close()
        raise
    return db


def keep_reserve(folder: Path) -> None:
    """A file to give up when the disk is full, so that the ledger can still be written."""
    path = folder / RESERVE
    if path.exists():
        return
    free = os.statvfs(folder)
    if free.f_bavail * free.f_frsize < ROOM_BYTES:
        return
    with contextlib.suppress(OSError):  # no reserve is no reason to fail
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(b"\0" * RESERVE_BYTES)


def give_reserve(folder: Path) -> bool:
    """Give the reserve up; False when it is gone already."""
    try:
        (folder / RESERVE).unlink()
    except OSError:
        return False
    return True


def _connect(path: Path) -> sqlite3.Connection:
    # One connection serves all threads of a process, one at a time: Ledger holds a lock around each use.
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    try:
        db.execute("PRAGMA synchronous=FULL")
    except BaseException:  # a full disk, say: the next try must not find this one's files still open
        db.close()
        raise
    return db


def _create(path: Path) -> None:
    """Build the database under another name and link it into place: nobody ever sees half of one."""
    building = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    building.unlink(missing_ok=True)
    os.close(os.open(building, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    try:
        db = _connect(building)
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
        db.close()  # the last connection moves everything from the WAL into the file
        with contextlib.suppress(FileExistsError):  # another process was faster: its ledger counts
            os.link(building, path)
        records.sync_folder(str(path.parent))
    finally:
        for leftover in path.parent.glob(f"{building.name}*"):
            leftover.unlink(missing_ok=True)


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version == VERSION:
        return
    if version > VERSION:
        raise LauncherError(
            f"{path} was written by a newer launcher (ledger version {version}, this one knows {VERSION})",
            "upgrade launcher, or set LAUNCHER_HOME to another folder",
        )
    if version not in UPGRADES:
        raise LauncherError(f"{path} is not a ledger that this launcher can read", "move it away")
    _upgrade(db)


def _upgrade(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        while (version := int(db.execute("PRAGMA user_version").fetchone()[0])) < VERSION:
            for statement in UPGRADES[version].split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={version + 1}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
