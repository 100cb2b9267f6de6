"""What the ledger's rows mean: values to columns and back, and what news may change (pure)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from launcher.run import Resource, Run, Segment, State, advance

SEGMENT_COLUMNS = tuple(f.name for f in fields(Segment))
TOLD_BY_THE_END = frozenset({"state", "reason", "exit_code", "started_at", "ended_at"})
CHANGEABLE = frozenset(SEGMENT_COLUMNS) - {"run_id", "number"}


@dataclass(frozen=True)
class Held:
    """A resource as the ledger holds it: intended, then confirmed (or never), then released."""

    row: int
    run_id: str
    segment: int
    target: str | None
    resource: Resource
    intended_at: str
    confirmed_at: str | None = None
    released_at: str | None = None


def updated(old: Segment, news: Mapping[str, Any]) -> Segment:
    """`old` after `news`: states only advance, an end keeps its reason and times, a handle is merged."""
    if unknown := set(news) - CHANGEABLE:
        raise TypeError(f"a segment has no field {', '.join(sorted(unknown))}")
    told = dict(news)
    if "handle" in told:
        told["handle"] = {**old.handle, **told["handle"]}
    heard = State(told.get("state", old.state))
    state = advance(old.state, heard)
    if old.state.final or state is not heard:
        told = {k: v for k, v in told.items() if k not in TOLD_BY_THE_END}
    return replace(old, **{**told, "state": state})


def segment_values(segment: Segment) -> list[Any]:
    values = {name: getattr(segment, name) for name in SEGMENT_COLUMNS}
    values |= {"handle": as_json(segment.handle), "state": segment.state.value}
    return list(values.values())


def segment_from(row: sqlite3.Row) -> Segment:
    values = {name: row[name] for name in SEGMENT_COLUMNS}
    values |= {
        "handle": json.loads(row["handle"]),
        "state": State(row["state"]),
        "handed_over": bool(row["handed_over"]),
    }
    return Segment(**values)


def run_from(row: sqlite3.Row, segments: Iterable[Segment]) -> Run:
    return Run(
        id=row["id"],
        name=row["name"],
        created_at=row["created_at"],
        home=row["home"],
        spec=json.loads(row["spec"]),
        facts=json.loads(row["facts"]),
        segments=tuple(segments),
        parent=row["parent"],
    )


def held_from(row: sqlite3.Row) -> Held:
    resource = Resource(
        kind=row["kind"],
        id=row["id"],
        nonce=row["nonce"],
        paid=bool(row["paid"]),
        detail=json.loads(row["detail"]),
    )
    names = ("row", "run_id", "segment", "target", "intended_at", "confirmed_at", "released_at")
    return Held(resource=resource, **{name: row[name] for name in names})


def as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
