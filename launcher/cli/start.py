"""demo, init, check, plan, run."""

from __future__ import annotations

import click

from launcher.cli.ending import INTERRUPTED
from launcher.cli.session import Session
from launcher.cli.verb import verb, with_session

JOB = click.argument("job", default=".", metavar="[JOB]")
DATA = click.option(
    "--data",
    multiple=True,
    metavar="KEY=SOURCE",
    help="A file, a folder or a link with its hash, as data KEY.",
)
YES = click.option(
    "-y", "--yes", is_flag=True, help="Answer questions about cost and size; never a host key."
)


@verb("demo")
@with_session
def demo_command(session: Session) -> int:
    """Train a small model, kill it in the middle, resume it, and compare it with an undisturbed run.

    Needs no account, Docker, torch or network.
    """
    from launcher.cli.answers import demo_text
    from launcher.cli.follow import shown
    from launcher.demo import demo

    result = shown(session, demo())
    if result and not session.json:
        session.tell({}, lambda: demo_text(result))
    return result.exit_code if result else INTERRUPTED


@verb("init")
@click.argument("folder", default=".", metavar="[DIR]")
@with_session
def init_command(session: Session, folder: str) -> None:
    """Write a commented job.yaml after looking at what is in DIR (default: here)."""
    from launcher.job.init import init

    path = str(init(folder))
    session.tell({"path": path}, lambda: path)
    session.next([f"launcher plan {folder}", f"launcher run {folder}"])


@verb("check")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@with_session
def check_command(session: Session, targets: tuple[str, ...]) -> int:
    """Reach each TARGET (default: all that are configured, and local); ends with 1 if something is wrong."""
    from launcher.cli.answers import show_findings
    from launcher.runner.check import check

    session.remind()
    return show_findings(session, check(session.context, targets))


@verb("plan")
@JOB
@click.option("--on", multiple=True, metavar="TARGET", help="Where; several times for several places.")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Override a parameter.")
@DATA
@click.option("--timeout", metavar="TIME", help="Time limit of the whole run, like 6h.")
@click.option("--max-cost", metavar="AMOUNT", help="Cost limit of the whole run.")
@click.option("--spot", is_flag=True, help="Machines that may be taken away.")
@with_session
def plan_command(session: Session, job: str, **options: object) -> None:
    """Say what would happen where: fits or why not, price, limits, what would travel. Changes nothing."""
    from launcher.cli.answers import plan_text, plan_value
    from launcher.runner.context import RunRequest
    from launcher.runner.submit import plan

    rows = plan(session.context, RunRequest(job, **options))  # type: ignore[arg-type]
    session.tell({"targets": [plan_value(row) for row in rows]}, lambda: plan_text(rows))
    fits = next((row.target for row in rows if row.fits), None)
    session.next([f"launcher run {job} --on {fits}"] if fits else [])


@verb("run", words=True, runs=True)
@JOB
@click.option("--on", multiple=True, metavar="TARGET", help="Where; several make a ladder.")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Override a parameter.")
@click.option(
    "-e", "--env", multiple=True, metavar="K[=V]", help="Set a variable; K alone copies it from here."
)
@DATA
@click.option("--name", metavar="NAME", help="Instead of the spec's name.")
@click.option("--out", metavar="DIR", help="Home folder becomes DIR/<id> instead of runs/<id>.")
@click.option("-d", "--detach", is_flag=True, help="Return when the job has started.")
@click.option(
    "--dry-run", "--dryrun", "dry_run", is_flag=True, help="Print what would be sent; place nothing."
)
@click.option("--spot", is_flag=True, help="Machines that may be taken away.")
@click.option("--timeout", metavar="TIME", help="Time limit of the whole run, like 6h.")
@click.option("--max-cost", metavar="AMOUNT", help="Cost limit of the whole run.")
@click.option(
    "--image",
    type=click.Choice(["build", "ship"]),
    default="build",
    help="Build the image there, or ship it.",
)
@click.option("--keep", metavar="TIME", help="Keep a rented machine so long after the job ended.")
@click.option("--from", "source", metavar="RUN[:CHECKPOINT]", help="Start from another run's checkpoint.")
@YES
@with_session
def run_command(session: Session, job: str, dry_run: bool, yes: bool, **options: object) -> int:
    """Pack JOB (a folder, its job.yaml, or a script; default: here), place it, follow it.

    Ends with the job's own exit code. What stands after -- goes to the job.
    """
    from launcher.cli.follow import follow
    from launcher.runner import submit
    from launcher.runner.context import RunRequest

    session.yes = yes
    request = RunRequest(job, args=options.pop("words"), **options)  # type: ignore[arg-type]
    if dry_run:
        session.answer(submit.dry_run(session.context, request))
        return 0
    return follow(session, submit.run(session.context, request))
