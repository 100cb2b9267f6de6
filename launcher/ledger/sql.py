"""The statements that several of the ledger's verbs share, each run inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3

from launcher.errors import RunNotFound
from launcher.ledger.rows import SEGMENT_COLUMNS, Held, as_json, segment_from, segment_values
from launcher.run import Resource, Segment


def insert_segment(db: sqlite3.Connection, new: Segment) -> None:
    marks = ", ".join("?" for _ in SEGMENT_COLUMNS)
    db.execute(f"INSERT INTO segments ({', '.join(SEGMENT_COLUMNS)}) VALUES ({marks})", segment_values(new))


def segment(db: sqlite3.Connection, run_id: str, number: int) -> Segment:
    row = db.execute("SELECT * FROM segments WHERE run_id = ? AND number = ?", [run_id, number]).fetchone()
    if row is None:
        raise RunNotFound(f"no segment {number} of run {run_id!r}", "`launcher ps -a` lists all runs")
    return segment_from(row)


def replace_segment(db: sqlite3.Connection, new: Segment) -> None:
    columns = ", ".join(f"{name} = ?" for name in SEGMENT_COLUMNS)
    values = [*segment_values(new), new.run_id, new.number]
    db.execute(f"UPDATE segments SET {columns} WHERE run_id = ? AND number = ?", values)


def insert_resource(db: sqlite3.Connection, new: Held) -> int:
    resource = new.resource
    values = [new.run_id, new.segment, resource.kind, resource.id, resource.nonce, resource.paid]
    cursor = db.execute(
        "INSERT INTO resources (run_id, segment, kind, id, nonce, paid, detail, intended_at)"
        " VALUES (?,?,?,?,?,?,?,?)",
        [*values, as_json(resource.detail), new.intended_at],
    )
    return int(cursor.lastrowid or 0)


def open_row(db: sqlite3.Connection, run_id: str, segment: int, resource: Resource) -> int | None:
    """The unreleased row that `resource` is about: of its id, else the oldest intent of its kind."""
    same = "id IN (?, '')" if resource.id else "id = ? AND detail = ? AND confirmed_at IS NULL"
    values = [resource.id] if resource.id else ["", as_json(resource.detail)]
    row = db.execute(
        "SELECT row FROM resources WHERE run_id = ? AND segment = ? AND kind = ? AND released_at IS NULL"
        f" AND {same} ORDER BY id = '', row LIMIT 1",
        [run_id, segment, resource.kind, *values],
    ).fetchone()
    return int(row["row"]) if row else None


def confirm(db: sqlite3.Connection, row: int, told: Resource, now: str) -> None:
    """The row has the id that `told` has, and what it tells besides."""
    known = db.execute("SELECT detail FROM resources WHERE row = ?", [row]).fetchone()
    merged = as_json({**json.loads(known["detail"]), **told.detail})
    db.execute(
        "UPDATE resources SET id = ?, detail = ?, confirmed_at = coalesce(confirmed_at, ?) WHERE row = ?",
        [told.id, merged, now, row],
    )
