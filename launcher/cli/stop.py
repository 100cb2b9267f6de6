"""cancel, release, resume, rerun."""

from __future__ import annotations

import click

from launcher.cli.session import Session
from launcher.cli.start import YES
from launcher.cli.verb import verb, with_session
from launcher.cli.watch import RUN


@verb("cancel", runs=True)
@RUN
@click.option("--grace", default="60s", show_default=True, metavar="TIME", help="Time to save, then SIGKILL.")
@with_session
def cancel_command(session: Session, run: str, grace: str) -> int:
    """Ask the job to save and stop."""
    from launcher.cli.follow import work
    from launcher.job.units import duration_s
    from launcher.runner.control import cancel

    found = session.run(run)
    code = work(session, cancel(session.context, found, duration_s(grace)))
    session.next([f"launcher attach {found.id}", f"launcher resume {found.id}"])
    return code


@verb("release", runs=True)
@click.argument("runs", nargs=-1, metavar="RUN...")
@click.option("--all", "all_", is_flag=True, help="Every run that is not released.")
@click.option("--force", is_flag=True, help="Even the only copy of a checkpoint, even a running job.")
@with_session
def release_command(session: Session, runs: tuple[str, ...], all_: bool, force: bool) -> int:
    """Stop paying and clean up: machines, containers, folders. May be called any number of times."""
    from launcher.cli.follow import work
    from launcher.runner.control import release

    if bool(runs) == all_:
        raise click.UsageError("name the runs, or --all")
    found = session.context.ledger.runs() if all_ else session.runs(runs)
    return work(session, release(session.context, found, force))


@verb("resume", runs=True)
@RUN
@click.option("--on", metavar="TARGET", help="Go on there instead.")
@click.option("--checkpoint", metavar="NAME", help="From this one instead of the newest.")
@click.option("--timeout", metavar="TIME", help="So much more time.")
@click.option("--max-cost", metavar="AMOUNT", help="A new cost limit of the whole run.")
@click.option("-d", "--detach", is_flag=True, help="Return when the job has started.")
@YES
@with_session
def resume_command(session: Session, run: str, yes: bool, **options: object) -> int:
    """Add a segment to a run, from its newest checkpoint: the way out of every end but success."""
    from launcher.cli.follow import follow
    from launcher.runner.context import ResumeRequest
    from launcher.runner.relay import resume

    session.yes = yes
    found = session.run(run)
    request = ResumeRequest(**options)  # type: ignore[arg-type]
    return follow(session, resume(session.context, found, request), found.id)


@verb("rerun", runs=True)
@RUN
@click.option("--on", metavar="TARGET", help="There instead.")
@click.option("-d", "--detach", is_flag=True, help="Return when the job has started.")
@YES
@with_session
def rerun_command(session: Session, run: str, on: str | None, detach: bool, yes: bool) -> int:
    """Run the same bundle and spec again, as a new run."""
    from launcher.cli.follow import follow
    from launcher.runner.relay import rerun

    session.yes = yes
    return follow(session, rerun(session.context, session.run(run), on, detach))
