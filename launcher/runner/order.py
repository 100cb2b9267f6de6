"""What the agent is told to do: order.json as a value (pure)."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from launcher.agent import records
from launcher.job.command import render
from launcher.job.spec import JobSpec
from launcher.run import Run, Segment

GRACE_S = 60.0


def order(run: Run, segment: Segment, spec: JobSpec, lock: Mapping[str, Any]) -> dict[str, Any]:
    """order.json without what only the machine knows (form, image, bin, folders), which the target fills in.

    `lock` has sha256 and python of the lock, or is empty. Times in seconds.
    """
    return {
        "v": records.VERSION,
        "run": run.id,
        "segment": segment.number,
        "rank": 0,
        "first_seq": segment.first_seq,
        "command": _command(spec, run),
        "env": dict(spec.env),
        "params": dict(spec.params),
        "secrets": list(spec.secrets),
        "bundle_sha256": run.facts["bundle_digest"],
        "lock_sha256": lock.get("sha256"),
        "locked": None,
        "python": lock.get("python") or spec.environment.python,
        "form": "plain",
        "image": None,
        "time_s": max(1.0, spec.limits.time_s - spent_s(run)),
        "grace_s": GRACE_S,
        "stall_s": spec.limits.stall_s,
        "checkpoint_every_s": spec.checkpoints.every_s,
        "gpus": spec.resources.count if spec.resources.gpu else 0,
        "nodes": 1,
        "node_rank": 0,
        "master_addr": "127.0.0.1",
        "master_port": 29500,
        "bin": None,
        "secrets_dir": None,
        "data_dir": None,
        "data": {key: _digest(told) for key, told in (run.facts.get("data") or {}).items()},
        "resume": None,
        "resume_digest": None,
    }


def _digest(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in ("digest", "files", "size_bytes")}


def _command(spec: JobSpec, run: Run) -> str | list[str]:
    command = render(spec.run, spec.params, run.facts.get("args", ()))
    return command if isinstance(command, str) else list(command)


def spent_s(run: Run) -> float:
    """Seconds that earlier segments of the run were running (limits bound the whole run)."""
    return sum(_seconds(s.started_at, s.ended_at) for s in run.segments if s.state.final)


def _seconds(start: str | None, end: str | None) -> float:
    if not start or not end:
        return 0.0
    begin, finish = (datetime.datetime.fromisoformat(t) for t in (start, end))
    return max(0.0, (finish - begin).total_seconds())
