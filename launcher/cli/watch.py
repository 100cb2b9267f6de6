"""ps, status, logs, attach, pull, wait, events, diff."""

from __future__ import annotations

import click

from launcher.cli.session import Session
from launcher.cli.verb import verb, with_session

RUN = click.argument("run", metavar="RUN")
RUNS = click.argument("runs", nargs=-1, required=True, metavar="RUN...")


@verb("ps", runs=True)
@click.option("-a", "--all", "all_", is_flag=True, help="Also those that have ended and are released.")
@click.option("--refresh", is_flag=True, help="Ask the places, not only the ledger.")
@click.option("-q", "--quiet", is_flag=True, help="Only the ids.")
@with_session
def ps_command(session: Session, all_: bool, refresh: bool, quiet: bool) -> None:
    """List runs, newest first: what runs, where, since when. Answers from the ledger, without network."""
    from launcher.cli.answers import ps_text
    from launcher.runner.look import ps

    rows = ps(session.context, all_, refresh)
    session.tell({"runs": rows}, lambda: "\n".join(r["id"] for r in rows) if quiet else ps_text(rows))


@verb("status", runs=True)
@RUN
@with_session
def status_command(session: Session, run: str) -> None:
    """Say all about one run, after one look at where it lives."""
    from launcher.cli.answers import status_text
    from launcher.runner.look import status

    value = status(session.context, session.run(run))
    session.tell(value, lambda: status_text(value))


@verb("events", runs=True)
@RUN
@with_session
def events_command(session: Session, run: str) -> None:
    """Say what happened to a run, in order."""
    from launcher.cli.answers import events_text
    from launcher.runner.look import events

    rows = events(session.context, session.run(run))
    session.tell({"events": rows}, lambda: events_text(rows))


@verb("wait", runs=True)
@RUNS
@with_session
def wait_command(session: Session, runs: tuple[str, ...]) -> int:
    """Wait until all have ended; ends with the first exit code that is not zero."""
    from launcher.cli.follow import follow
    from launcher.runner.follow import wait

    found = session.runs(runs)
    return follow(session, wait(session.context, found), found[0].id)


@verb("logs", runs=True)
@RUN
@click.option("-f", "--follow", "follow_", is_flag=True, help="Go on until the run has ended.")
@click.option("-n", "--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines.")
@click.option("--since", metavar="TIME", help="Only since then: 10m, 2h, or an ISO time.")
@click.option("--grep", metavar="RE", help="Only lines that match a regular expression.")
@click.option("--raw", is_flag=True, help="The job's very bytes, escape sequences and all.")
@with_session
def logs_command(session: Session, run: str, follow_: bool, raw: bool, **options: object) -> int:
    """Show a run's log: what is home, after a look for more. Works offline."""
    from launcher.cli.follow import follow, work
    from launcher.runner.context import LogQuery
    from launcher.runner.follow import logs

    found = session.run(run)
    lines = logs(session.context, found, LogQuery(follow_, **options))  # type: ignore[arg-type]
    return follow(session, lines, found.id, raw) if follow_ else work(session, lines, raw=raw)


@verb("attach", runs=True)
@RUN
@with_session
def attach_command(session: Session, run: str) -> int:
    """Go on following a run where any earlier follow stopped; finishes a half-done submission."""
    from launcher.cli.follow import follow
    from launcher.runner.follow import attach

    found = session.run(run)
    return follow(session, attach(session.context, found), found.id)


@verb("pull", runs=True)
@RUN
@click.option("--checkpoints", type=click.Choice(["last", "best", "all"]), help="Which of them.")
@click.option("--watch", is_flag=True, help="Go on until the run has ended.")
@click.option("--out", metavar="DIR", help="Make a verified copy there.")
@click.option("--from-folder", metavar="DIR", help="Take what a notebook wrote and you downloaded.")
@with_session
def pull_command(session: Session, run: str, **options: object) -> int:
    """Bring a run's outputs home: verified, and where an earlier pull stopped."""
    from launcher.cli.follow import work
    from launcher.runner.results import pull

    if options["watch"] and options["from_folder"]:
        raise click.UsageError(
            "--watch waits for a place, --from-folder reads what is here: name one of them"
        )
    return work(session, pull(session.context, session.run(run), **options))  # type: ignore[arg-type]


@verb("diff", runs=True)
@click.argument("a", metavar="RUN")
@click.argument("b", metavar="RUN")
@with_session
def diff_command(session: Session, a: str, b: str) -> int:
    """Say what was the same in two runs and what was not; ends with 1 if anything differs."""
    from launcher.cli.answers import diff_text
    from launcher.runner.diff import diff

    value = diff(session.context, session.run(a), session.run(b))
    session.tell(value, lambda: diff_text(value))
    return 0 if value["equal"] else 1
