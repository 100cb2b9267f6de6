"""The answers of commands as text: tables of runs, findings, plans, differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from launcher.render.safe import one_line
from launcher.render.table import brief, elapsed, pairs, size, table

if TYPE_CHECKING:
    from launcher.cli.session import Session
    from launcher.events import Result
    from launcher.runner.context import PlanRow
    from launcher.runner.quota import Told
    from launcher.target import Finding, Quota

Row = Mapping[str, Any]


def ps_text(rows: Sequence[Row]) -> str:
    """One line a run."""
    now = datetime.now(UTC)
    heads = ["RUN", "STATE", "WHERE", "CREATED", "TOOK", "COST", "NOTE"]
    return table(heads, [_ps_row(row, now) for row in rows]) if rows else ""


def status_text(value: Row) -> str:
    """Everything about one run, then its segments where there are several."""
    now = datetime.now(UTC)
    rows: list[tuple[str, object]] = [
        ("run", value["id"]),
        ("state", _state(value)),
        ("exit code", value["exit_code"]),
        ("unreachable", f"since {value['unreachable_since']}" if value["unreachable_since"] else ""),
        ("where", value["target"]),
        ("address", _address(value)),
        ("created", f"{value['created_at']} ({_ago(value['created_at'], now)})"),
        ("took", _took(value, now)),
        ("cost", _cost(value)),
        ("released", value["released_at"] or "no"),
        ("parent", value.get("parent")),
        ("home", value["out"]),
    ]
    segments = value.get("segments")
    if not isinstance(segments, list) or len(segments) < 2:
        return pairs(rows)
    heads = ["SEGMENT", "STATE", "WHERE", "TOOK", "EXIT"]
    cells = [(s["number"], _state(s), s["target"], _took(s, now), s["exit_code"]) for s in segments]
    return pairs(rows) + "\n\n" + table(heads, cells)


def _address(value: Row) -> str | None:
    """A page of the platform's about the newest segment."""
    segments = value.get("segments")
    return segments[-1].get("address") if isinstance(segments, list) and segments else None


def events_text(rows: Sequence[Row]) -> str:
    """`time  kind  what else`"""
    return "\n".join(_event(row) for row in rows)


def diff_text(value: Row) -> str:
    """What differs, then what is the same."""
    rows = sorted(value["rows"], key=lambda row: bool(row["equal"]))
    heads = ["", "WHAT", value.get("a", "a"), value.get("b", "b")]
    cells = [
        (
            "=" if row["equal"] else "≠",
            row["what"],
            brief(row["a"]),
            "" if row["equal"] else brief(row["b"]),
        )
        for row in rows
    ]
    return table(heads, cells)


def cost_text(rows: Sequence[Row], total: float) -> str:
    """One line a run, and the sum."""
    cells = [(row["id"], row["target"], row["state"], f"{row['cost_usd']:.2f}") for row in rows]
    return table(["RUN", "WHERE", "STATE", "USD"], [*cells, ("total", "", "", f"{total:.2f}")])


def plan_text(rows: Sequence[PlanRow]) -> str:
    """One line a target, then what must be known about each."""
    heads = ["TARGET", "FITS", "MACHINE", "FORM", "PRICE", "LIMITS", "TRAVELS", "WHY NOT"]
    notes = [f"{row.target}: {one_line(note)}" for row in rows for note in row.notes]
    return "\n".join([table(heads, [_plan_row(row) for row in rows]), *notes])


def plan_value(row: PlanRow) -> dict[str, Any]:
    """A row of the plan for `--json`."""
    return {**vars(row), "limits": dict(row.limits), "travels": dict(row.travels), "notes": list(row.notes)}


def quota_text(told: Sequence[Told]) -> str:
    """One line a quota."""
    heads = ["TARGET", "WHAT", "LEFT", "USED", "TOTAL", "UNIT", "MORE AT", "NOTE"]
    rows: list[Sequence[object]] = []
    for one in told:
        rows += [_quota_row(quota) for quota in one.quotas]
        if not one.quotas and not one.error:
            rows.append((one.target, "", "", "", "", "", "", "counts nothing"))
    return table(heads, rows) if rows else ""


def quota_value(told: Sequence[Told]) -> dict[str, Any]:
    """The quotas for `--json`, and who could not be asked."""
    return {
        "quotas": [{**vars(quota), "notes": list(quota.notes)} for one in told for quota in one.quotas],
        "errors": [
            {
                "target": one.target,
                "code": one.error.code,
                "message": one.error.message,
                "hint": one.error.hint,
            }
            for one in told
            if one.error
        ],
    }


def demo_text(result: Result) -> str:
    """What the demo has shown, and where to go from here."""
    digests = "sha256 {sha256} = {undisturbed_sha256}".format(**result.detail)
    commands = "".join(f"  launcher {words}\n" for words in ("init", "plan", "run train.py"))
    return f"same weights as an undisturbed run: {digests}\n\nnext:\n{commands}"


def show_findings(session: Session, findings: Iterable[tuple[str, Finding]]) -> int:
    """Findings as they come; 1 if anything is wrong."""
    import sys

    seen = []
    for target, finding in findings:
        seen.append({"target": target, **vars(finding)})
        if not session.json:
            sys.stdout.write(_finding(target, finding) + "\n")
            sys.stdout.flush()
    clean = all(one["ok"] for one in seen)
    if session.json:
        session.answer({"ok": clean, "findings": seen})
    return 0 if clean else 1


def _finding(target: str, finding: Finding) -> str:
    detail = f": {finding.detail}" if finding.detail else ""
    line = f"{'ok   ' if finding.ok else 'WRONG'}  {one_line(f'{target}  {finding.what}{detail}')}"
    return line + (f"\n       {one_line(finding.hint)}" if finding.hint and not finding.ok else "")


def _quota_row(quota: Quota) -> Sequence[object]:
    left, used, total = (None if n is None else f"{n:.1f}" for n in (quota.left, quota.used, quota.total))
    notes = "; ".join(quota.notes)
    return (quota.target, quota.what, left, used, total, quota.unit, _minute(quota.refreshes_at), notes)


def _minute(time: str) -> str:
    """`2026-11-28 00:00 UTC`; what is no time, as it came."""
    try:
        return _moment(time).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return time


def _plan_row(row: PlanRow) -> list[object]:
    limits = ", ".join(f"{key} {value}" for key, value in row.limits.items())
    travels = ", ".join(f"{what} {size(count)}" for what, count in row.travels.items())
    fits = "yes" if row.fits else "no"
    return [
        row.target,
        fits,
        row.machine,
        row.form,
        row.price if row.fits else "",
        limits,
        travels,
        row.why_not,
    ]


def _ps_row(row: Row, now: datetime) -> list[object]:
    note = f"no answer since {row['unreachable_since']}" if row["unreachable_since"] else ""
    return [
        row["id"],
        _state(row),
        row["target"],
        _ago(row["created_at"], now),
        _took(row, now),
        _cost(row),
        note,
    ]


def _state(row: Row) -> str:
    reason = f" ({row['reason']})" if row.get("reason") else ""
    return f"{row['state']}{reason}"


def _cost(row: Row) -> str:
    return f"${row['cost_usd']:.2f}" if row.get("cost_usd") else ""


def _ago(time: str, now: datetime) -> str:
    return f"{elapsed((now - _moment(time)).total_seconds())} ago"


def _took(row: Row, now: datetime) -> str:
    if not row.get("started_at"):
        return ""
    end = _moment(row["ended_at"]) if row.get("ended_at") else now
    return elapsed(max(0.0, (end - _moment(row["started_at"])).total_seconds()))


def _moment(time: str) -> datetime:
    return datetime.fromisoformat(time)


def _event(row: Row) -> str:
    rest = {key: value for key, value in row.items() if key not in ("time", "kind", "run_id", "run")}
    words = rest.pop("data", None) or rest
    return one_line(f"{row['time']}  {row['kind']}  " + " ".join(f"{k}={v}" for k, v in dict(words).items()))
