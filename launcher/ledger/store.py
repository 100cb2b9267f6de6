"""The ledger's verbs: each that writes is on the disk when it returns; many processes may use it at once."""

from __future__ import annotations

import difflib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.agent import records
from launcher.errors import LauncherError, RunNotFound
from launcher.ledger.database import Database
from launcher.ledger.rows import (
    SEGMENT_COLUMNS,
    Held,
    Noted,
    as_json,
    held_from,
    run_from,
    segment_from,
    segment_values,
    updated,
)
from launcher.run import FINAL, Resource, Run, Segment

_FINAL = ", ".join(f"'{state.value}'" for state in FINAL)
_NEWEST_STATE = "(SELECT state FROM segments WHERE run_id = runs.id ORDER BY number DESC LIMIT 1)"


class Ledger:
    """Runs, segments, resources and events of one user, in `folder`/ledger.sqlite3."""

    def __init__(self, folder: str | Path, clock: Callable[[], str] = records.utc) -> None:
        self.folder = Path(folder)
        self._database = Database(self.folder)
        self._clock = clock

    def close(self) -> None:
        self._database.close()

    # runs

    def create_run(self, run: Run) -> None:
        """Record a new run (with its segments, if it has some already)."""

        def work(db: sqlite3.Connection) -> None:
            row = [run.id, run.name, run.created_at, run.home, as_json(run.spec), as_json(run.facts)]
            db.execute(
                "INSERT INTO runs (id, name, created_at, home, spec, facts, parent) VALUES (?,?,?,?,?,?,?)",
                [*row, run.parent],
            )
            for segment in run.segments:
                _insert_segment(db, segment)

        self._database.write(work)

    def run(self, run_id: str) -> Run:
        """The run of this exact id."""
        found = self._runs("WHERE id = ?", [run_id])
        if not found:
            raise RunNotFound(f"no run {run_id!r}", "`launcher ps -a` lists all runs")
        return found[0]

    def find(self, text: str) -> Run:
        """An exact id, `last`, a name (its newest run) or a unique prefix, in this order."""
        found = self._runs("WHERE id = ?", [text])
        if text == "last":
            found = found or self._runs("ORDER BY position DESC LIMIT 1", [])
        found = found or self._runs("WHERE name = ? ORDER BY position DESC LIMIT 1", [text])
        found = found or self._runs("WHERE substr(id, 1, ?) = ? ORDER BY position DESC", [len(text), text])
        if not found or not text:
            raise self._unknown(text)
        if len(found) > 1:
            names = ", ".join(run.id for run in found[:8]) + (", …" if len(found) > 8 else "")
            raise RunNotFound(f"{text!r} fits {len(found)} runs: {names}", "give a few more letters")
        return found[0]

    def runs(self, limit: int | None = None, active_only: bool = False) -> list[Run]:
        """Newest first; `active_only`: those whose newest segment has not ended."""
        where = f"WHERE coalesce({_NEWEST_STATE}, 'pending') NOT IN ({_FINAL})" if active_only else ""
        return self._runs(f"{where} ORDER BY position DESC LIMIT ?", [-1 if limit is None else limit])

    def release_run(self, run_id: str) -> Run:
        """Mark a run released. Refused while a resource of it is not: it may still cost."""

        def work(db: sqlite3.Connection) -> None:
            left = db.execute(
                "SELECT kind, id FROM resources WHERE run_id = ? AND released_at IS NULL", [run_id]
            ).fetchall()
            if left:
                names = ", ".join(f"{row['kind']} {row['id']}".strip() for row in left)
                raise LauncherError(f"{run_id} still has {names}", f"launcher release {run_id}")
            now = self._clock()
            db.execute(
                "UPDATE segments SET released_at = ? WHERE run_id = ? AND released_at IS NULL", [now, run_id]
            )

        self._database.write(work)
        return self.run(run_id)

    # segments

    def add_segment(self, segment: Segment) -> None:
        """Record the next segment of a run; two processes that both want to be next: one is refused."""

        def work(db: sqlite3.Connection) -> None:
            row = db.execute(
                "SELECT count(*), max(number) FROM segments WHERE run_id = ?", [segment.run_id]
            ).fetchone()
            if segment.number != (0 if not row[0] else row[1] + 1):
                raise LauncherError(
                    f"{segment.run_id} has segment {segment.number} already or lacks the one before it",
                    "another launcher may have resumed it: `launcher status`",
                )
            _insert_segment(db, segment)

        self._database.write(work)

    def update_segment(self, run_id: str, number: int, **fields: Any) -> Segment:
        """Apply news; returns what is stored now. A change of state is an event, too."""

        def work(db: sqlite3.Connection) -> Segment:
            old = _segment(db, run_id, number)
            new = updated(old, fields)
            if new.state is not old.state:
                if new.state.final and not new.ended_at:
                    new = updated(old, {**fields, "ended_at": self._clock()})
                data = {
                    "segment": number,
                    "from": old.state.value,
                    "to": new.state.value,
                    "reason": new.reason,
                }
                self._note(db, run_id, "state", data)
            columns = ", ".join(f"{name} = ?" for name in SEGMENT_COLUMNS)
            db.execute(
                f"UPDATE segments SET {columns} WHERE run_id = ? AND number = ?",
                [*segment_values(new), run_id, number],
            )
            return new

        return self._database.write(work)

    def save_handle(self, run_id: str, number: int, handle: Mapping[str, Any]) -> Segment:
        """Merge into what the target remembers about its segment."""
        return self.update_segment(run_id, number, handle=handle)

    # resources

    def intend(self, run_id: str, segment: int, resource: Resource) -> int:
        """Before the effect: a row for what is about to be created. The same intent again is the same row."""

        def work(db: sqlite3.Connection) -> int:
            same = db.execute(
                "SELECT row FROM resources WHERE run_id = ? AND segment = ? AND kind = ? AND id = ?"
                " AND detail = ? AND confirmed_at IS NULL AND released_at IS NULL",
                [run_id, segment, resource.kind, resource.id, as_json(resource.detail)],
            ).fetchone()
            return int(same["row"]) if same else self._insert_resource(db, run_id, segment, resource)

        return self._database.write(work)

    def confirm(self, row: int, provider_id: str, detail: Mapping[str, Any] | None = None) -> None:
        """After the effect: the id that the provider gave."""
        self._database.write(lambda db: _confirm(db, row, provider_id, detail or {}, self._clock()))

    def save_resource(self, run_id: str, segment: int, resource: Resource) -> int:
        """What exists: updates the row of this id, else fills the open intent of its kind, else adds."""

        def work(db: sqlite3.Connection) -> int:
            row = db.execute(
                "SELECT row FROM resources WHERE run_id = ? AND segment = ? AND kind = ?"
                " AND released_at IS NULL AND (id = ? OR confirmed_at IS NULL)"
                " ORDER BY id = ? DESC, row LIMIT 1",
                [run_id, segment, resource.kind, resource.id, resource.id],
            ).fetchone()
            number = int(row["row"]) if row else self._insert_resource(db, run_id, segment, resource)
            _confirm(db, number, resource.id, resource.detail, self._clock())
            return number

        return self._database.write(work)

    def released(self, what: int | tuple[str, str], run_id: str | None = None) -> None:
        """It is gone: a row, or (kind, id), of one run or of all."""
        where, values = ("row = ?", [what]) if isinstance(what, int) else ("kind = ? AND id = ?", list(what))
        self._database.write(
            lambda db: db.execute(
                f"UPDATE resources SET released_at = ? WHERE {where} AND released_at IS NULL"
                " AND run_id = coalesce(?, run_id)",
                [self._clock(), *values, run_id],
            )
        )

    def resources(self, run_id: str | None = None, unreleased_only: bool = True) -> list[Held]:
        where = "run_id = coalesce(?, run_id)" + (" AND released_at IS NULL" if unreleased_only else "")
        rows = self._database.read(
            lambda db: db.execute(f"SELECT * FROM resources WHERE {where} ORDER BY row", [run_id]).fetchall()
        )
        return [held_from(row) for row in rows]

    # events

    def event(self, run_id: str, kind: str, data: Mapping[str, Any] | None = None) -> None:
        self._database.write(lambda db: self._note(db, run_id, kind, data or {}))

    def events(self, run_id: str) -> list[Noted]:
        rows = self._database.read(
            lambda db: db.execute("SELECT * FROM events WHERE run_id = ? ORDER BY row", [run_id]).fetchall()
        )
        return [Noted(row["run_id"], row["time"], row["kind"], json.loads(row["data"])) for row in rows]

    # inside

    def _runs(self, tail: str, values: Sequence[Any]) -> list[Run]:
        def work(db: sqlite3.Connection) -> tuple[list[sqlite3.Row], list[sqlite3.Row]]:
            db.execute("BEGIN")  # both answers from one moment
            try:
                runs = db.execute(f"SELECT * FROM runs {tail}", values).fetchall()
                segments = db.execute(
                    f"SELECT * FROM segments WHERE run_id IN (SELECT id FROM runs {tail}) ORDER BY number",
                    values,
                ).fetchall()
            finally:
                if db.in_transaction:
                    db.execute("COMMIT")
            return runs, segments

        runs, rows = self._database.read(work)
        segments: dict[str, list[Segment]] = {}
        for row in rows:
            segments.setdefault(row["run_id"], []).append(segment_from(row))
        return [run_from(row, segments.get(row["id"], [])) for row in runs]

    def _unknown(self, text: str) -> RunNotFound:
        rows = self._database.read(
            lambda db: db.execute("SELECT id, name FROM runs ORDER BY position DESC").fetchall()
        )
        if not rows:
            return RunNotFound("there are no runs yet", "start one: `launcher run JOB`")
        known = list(dict.fromkeys(value for row in rows for value in (row["name"], row["id"])))
        near = difflib.get_close_matches(text, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`launcher ps -a` lists all runs"
        return RunNotFound(f"no run {text!r}", hint)

    def _insert_resource(self, db: sqlite3.Connection, run_id: str, segment: int, resource: Resource) -> int:
        row = [run_id, segment, resource.kind, resource.id, resource.nonce, resource.paid]
        cursor = db.execute(
            "INSERT INTO resources (run_id, segment, kind, id, nonce, paid, detail, intended_at)"
            " VALUES (?,?,?,?,?,?,?,?)",
            [*row, as_json(resource.detail), self._clock()],
        )
        return int(cursor.lastrowid or 0)

    def _note(self, db: sqlite3.Connection, run_id: str, kind: str, data: Mapping[str, Any]) -> None:
        values = [run_id, self._clock(), kind, as_json(data)]
        db.execute("INSERT INTO events (run_id, time, kind, data) VALUES (?,?,?,?)", values)


def _insert_segment(db: sqlite3.Connection, segment: Segment) -> None:
    marks = ", ".join("?" for _ in SEGMENT_COLUMNS)
    db.execute(
        f"INSERT INTO segments ({', '.join(SEGMENT_COLUMNS)}) VALUES ({marks})", segment_values(segment)
    )


def _segment(db: sqlite3.Connection, run_id: str, number: int) -> Segment:
    row = db.execute("SELECT * FROM segments WHERE run_id = ? AND number = ?", [run_id, number]).fetchone()
    if row is None:
        raise RunNotFound(f"no segment {number} of run {run_id!r}", "`launcher ps -a` lists all runs")
    return segment_from(row)


def _confirm(db: sqlite3.Connection, row: int, provider_id: str, detail: Mapping[str, Any], now: str) -> None:
    known = db.execute("SELECT detail FROM resources WHERE row = ?", [row]).fetchone()
    merged = as_json({**json.loads(known["detail"]), **detail})
    db.execute(
        "UPDATE resources SET id = ?, detail = ?, confirmed_at = coalesce(confirmed_at, ?) WHERE row = ?",
        [provider_id, merged, now, row],
    )
