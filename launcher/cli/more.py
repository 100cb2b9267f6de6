"""lock, schema, completion, version."""

from __future__ import annotations

import click

from launcher.cli.session import Session
from launcher.cli.start import JOB
from launcher.cli.verb import verb, with_session


@verb("lock")
@JOB
@click.option("--upgrade", is_flag=True, help="Take newer versions than the lock has.")
@with_session
def lock_command(session: Session, job: str, upgrade: bool) -> None:
    """Write the lock file of a job's requirements: exact versions and hashes, and the exact Python."""
    from launcher.job.parse import load
    from launcher.lock import parse_lock
    from launcher.locking import LockSettings, write_lock
    from launcher.sources import lock_plan

    plan = lock_plan(load(job))
    if plan is None:
        session.tell({"path": None}, lambda: "no requirements: the standard library needs no lock")
        return
    config = session.config
    settings = LockSettings(config.home / "cache", config.variable("UV_PYTHON_DOWNLOADS_JSON_URL"), upgrade)
    lock = parse_lock(write_lock(plan, settings))
    path, count = str(plan.path), len(lock.pins)
    value = {"path": path, "sha256": lock.sha256, "python": lock.python, "packages": lock.pins}
    session.tell(value, lambda: f"{path}: Python {lock.python}, {count} packages")


@verb("schema")
@with_session
def schema_command(session: Session) -> None:
    """Print the JSON Schema of job.yaml, for editors."""
    import json

    from launcher.job.schema import schema

    click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))


@verb("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@with_session
def completion_command(session: Session, shell: str) -> None:
    """Print the completion script of SHELL, to be read by its start-up file."""
    from click.shell_completion import ShellComplete, get_completion_class

    from launcher.cli.main import cli

    found = get_completion_class(shell)
    assert found is not None
    # ShellComplete.source, because bash's own starts a bash to ask for its version
    script = ShellComplete.source(found(cli, {}, "launcher", "_LAUNCHER_COMPLETE"))
    session.tell({"shell": shell, "script": script}, lambda: script)


@verb("version")
@with_session
def version_command(session: Session) -> None:
    """Print the version."""
    from launcher import __version__

    session.tell({"version": __version__}, lambda: f"launcher {__version__}")
