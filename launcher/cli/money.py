"""quota, cost."""

from __future__ import annotations

import click

from launcher.cli.session import Session
from launcher.cli.verb import verb, with_session


@verb("quota")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@with_session
def quota_command(session: Session, targets: tuple[str, ...]) -> int:
    """Say what is left of free hours and balances (default: all targets, and the platforms signed in to)."""
    from launcher.cli.answers import quota_text, quota_value
    from launcher.runner.quota import exit_code, quota

    session.remind()
    told = quota(session.context, targets)
    if not session.json:
        for one in told:
            if one.error:
                session.say(f"{one.target}: {one.error.message}")
                session.say(f"hint: {one.error.hint}" if one.error.hint else "")
    session.tell(quota_value(told), lambda: quota_text(told))
    return exit_code(told)


@verb("cost", runs=True)
@click.option("--since", default="30d", show_default=True, metavar="TIME", help="Runs created since then.")
@with_session
def cost_command(session: Session, since: str) -> None:
    """Say what runs have cost, from the ledger."""
    from launcher.cli.answers import cost_text
    from launcher.runner.logquery import since_time
    from launcher.runner.look import ps

    begin = since_time(since, session.now())
    rows = [row for row in ps(session.context, True, False) if row["created_at"] >= begin]
    total = sum(row["cost_usd"] for row in rows)
    value = {"since": begin, "cost_usd": total, "runs": [_kept(row) for row in rows]}
    session.tell(value, lambda: cost_text(rows, total))


def _kept(row: dict[str, object]) -> dict[str, object]:
    return {key: row[key] for key in ("id", "target", "state", "created_at", "cost_usd")}
