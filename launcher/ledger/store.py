"""The ledger's verbs: each that writes is on the disk when it returns; many processes may use it at once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.agent import records
from launcher.errors import LauncherError, RunNotFound
from launcher.ledger import sql
from launcher.ledger.database import Database
from launcher.ledger.rows import (
    Held,
    as_json,
    held_from,
    run_from,
    segment_from,
    updated,
)
from launcher.run import FINAL, Resource, Run, Segment

_FINAL = ", ".join(f"'{state.value}'" for state in FINAL)
_NEWEST_STATE = "(SELECT state FROM segments WHERE run_id = runs.id ORDER BY number DESC LIMIT 1)"
_COSTING = "SELECT run_id FROM resources WHERE released_at IS NULL AND paid"
_TARGET = "(SELECT target FROM segments s WHERE s.run_id = resources.run_id AND s.number = resources.segment)"


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
                sql.insert_segment(db, segment)

        self._database.write(work)

    def run(self, run_id: str) -> Run:
        """The run of this exact id."""
        found = self._runs("WHERE id = ?", [run_id])
        if not found:
            raise RunNotFound(f"no run {run_id!r}", "`launcher ps -a` lists all runs")
        return found[0]

    def update_spec(self, run_id: str, spec: Mapping[str, Any]) -> None:
        """A run's new limits: the only thing in a recorded spec that a later command may change."""
        text = "UPDATE runs SET spec = ? WHERE id = ?"
        self._database.write(lambda db: db.execute(text, [as_json(spec), run_id]))

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
        """Newest first; `active_only`: those whose newest segment has not ended, or that may still cost."""
        living = f"coalesce({_NEWEST_STATE}, 'pending') NOT IN ({_FINAL})"
        where = f"WHERE {living} OR id IN ({_COSTING})" if active_only else ""
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
            sql.insert_segment(db, segment)

        self._database.write(work)

    def update_segment(self, run_id: str, number: int, **fields: Any) -> Segment:
        """Apply news; returns what is stored now. A change of state is an event, too."""

        def work(db: sqlite3.Connection) -> Segment:
            old = sql.segment(db, run_id, number)
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
            sql.replace_segment(db, new)
            return new

        return self._database.write(work)

    def save_handle(self, run_id: str, number: int, handle: Mapping[str, Any]) -> Segment:
        """Merge into what the target remembers about its segment."""
        return self.update_segment(run_id, number, handle=handle)

    # resources

    def intend(self, run_id: str, segment: int, resource: Resource) -> int:
        """Before the effect: a row for what is about to be created. Told again with its id: confirmed."""

        def work(db: sqlite3.Connection) -> int:
            row = sql.open_row(db, run_id, segment, resource)
            if row is None:
                return sql.insert_resource(
                    db, Held(0, run_id, segment, None, resource, intended_at=self._clock())
                )
            if resource.id:
                sql.confirm(db, row, resource, self._clock())
            return row

        return self._database.write(work)

    def confirm(self, row: int, provider_id: str, detail: Mapping[str, Any] | None = None) -> None:
        """After the effect: the id that the provider gave."""
        told = Resource("", provider_id, "", detail=detail or {})
        self._database.write(lambda db: sql.confirm(db, row, told, self._clock()))

    def released(self, run_id: str, kind: str, id: str) -> None:
        """It is gone, by the provider's own word."""
        self._release("run_id = ? AND kind = ? AND id = ?", [run_id, kind, id])

    def released_row(self, row: int) -> None:
        """An intent that came to nothing, or a row whose resource is gone."""
        self._release("row = ?", [row])

    def resources(
        self, run_id: str | None = None, unreleased_only: bool = True, paid_only: bool = False
    ) -> list[Held]:
        where = ["released_at IS NULL"] * unreleased_only + ["paid"] * paid_only
        where += ["run_id = ?"] if run_id else []
        text = f"SELECT *, {_TARGET} AS target FROM resources WHERE {' AND '.join(where) or '1'} ORDER BY row"
        values = [run_id] if run_id else []
        return [held_from(row) for row in self._rows(text, values)]

    # events

    def event(self, run_id: str, kind: str, data: Mapping[str, Any] | None = None) -> None:
        self._database.write(lambda db: self._note(db, run_id, kind, data or {}))

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """What happened to a run, in order: time, kind, data."""
        rows = self._rows("SELECT time, kind, data FROM events WHERE run_id = ? ORDER BY row", [run_id])
        return [{**dict(row), "data": json.loads(row["data"])} for row in rows]

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

    def _note(self, db: sqlite3.Connection, run_id: str, kind: str, data: Mapping[str, Any]) -> None:
        values = [run_id, self._clock(), kind, as_json(data)]
        db.execute("INSERT INTO events (run_id, time, kind, data) VALUES (?,?,?,?)", values)

    def _rows(self, text: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        return self._database.read(lambda db: db.execute(text, values).fetchall())

    def _release(self, where: str, values: Sequence[Any]) -> None:
        text = f"UPDATE resources SET released_at = ? WHERE released_at IS NULL AND {where}"
        self._database.write(lambda db: db.execute(text, [self._clock(), *values]))

    def _unknown(self, text: str) -> RunNotFound:
        rows = self._rows("SELECT id, name FROM runs ORDER BY position DESC")
        if not rows:
            return RunNotFound("there are no runs yet", "start one: `launcher run JOB`")
        import difflib

        known = list(dict.fromkeys(value for row in rows for value in (row["name"], row["id"])))
        near = difflib.get_close_matches(text, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`launcher ps -a` lists all runs"
        return RunNotFound(f"no run {text!r}", hint)
