"""lock, schema, completion, version."""

from __future__ import annotations

import click

from launcher.cli.session import Session
from launcher.cli.start import JOB
from launcher.cli.verb import verb, with_session


@verb("lock")
@JOB
@with_session
def lock_command(session: Session, job: str) -> None:
    """Write the lock file of a job's requirements: exact versions and hashes, and the exact Python."""
    from launcher.cli.answers import locked

    session.tell(*locked(session, job))


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
