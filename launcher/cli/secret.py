"""secret set, ls, rm: values go in through a prompt or stdin, never through argv."""

from __future__ import annotations

import sys

import click

from launcher.cli.session import Session
from launcher.cli.verb import verb, with_session


@click.group("secret")
def secret_command() -> None:
    """Set, list and remove secrets; values are kept by the system's keyring, never by launcher."""


@verb("set")
@click.argument("name")
@click.option("--command", metavar="CMD", help="Keep a command that prints the value: 'pass show hf'.")
@with_session
def set_command(session: Session, name: str, command: str | None) -> None:
    """Keep the value of NAME, asked for at a terminal, else read from stdin."""
    from launcher import secrets

    if command is not None:
        secrets.set_command(session.config, name, command)
    else:
        secrets.set_value(session.config, name, _value(session, name))
    session.tell({"set": name}, lambda: f"set {name}")


@verb("ls")
@with_session
def ls_command(session: Session) -> None:
    """List the names, and where each value comes from; never a value."""
    from launcher import secrets
    from launcher.render.table import table

    known = secrets.listed(session.config)
    rows = list(known.items())
    session.tell({"secrets": known}, lambda: table(["NAME", "FROM"], rows) if rows else "")


@verb("rm")
@click.argument("name")
@with_session
def rm_command(session: Session, name: str) -> None:
    """Forget NAME, and its value in the keyring."""
    from launcher import secrets

    secrets.remove(session.config, name)
    session.tell({"removed": name}, lambda: f"removed {name}")


def _value(session: Session, name: str) -> str:
    if session.at_terminal():
        value: str = click.prompt(name, hide_input=True, err=True)
        return value
    value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not value:
        raise click.UsageError("no value on stdin")
    return value


for one in (set_command, ls_command, rm_command):
    secret_command.add_command(one)
