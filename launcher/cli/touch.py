"""exec, ssh, forward: touch a live run."""

from __future__ import annotations

import contextlib

import click

from launcher.cli.session import Session
from launcher.cli.verb import verb, with_session
from launcher.cli.watch import RUN


@verb(
    "exec",
    words=True,
    runs=True,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)
@RUN
@click.argument("words", nargs=-1, metavar="-- CMD...", type=click.UNPROCESSED)
@with_session
def exec_command(session: Session, run: str, words: tuple[str, ...]) -> int:
    """Run a command where the job runs; ends with its exit code."""
    from launcher.runner.touch import execute

    if not words:
        raise click.UsageError("no command; write it after --")
    return execute(session.context, session.run(run), words)


@verb("ssh", runs=True)
@RUN
@with_session
def ssh_command(session: Session, run: str) -> int:
    """Open a terminal where the job runs."""
    from launcher.runner.touch import shell

    return shell(session.context, session.run(run))


@verb("forward", runs=True)
@RUN
@click.argument("ports", metavar="PORT[:PORT]")
@with_session
def forward_command(session: Session, run: str, ports: str) -> int:
    """Make a port of a live job this machine's (LOCAL:REMOTE, or the same on both), until Ctrl-C."""
    from launcher.cli.follow import shown
    from launcher.runner.touch import forward

    local, remote = port_pair(ports)
    with contextlib.suppress(KeyboardInterrupt):  # its only end
        shown(session, forward(session.context, session.run(run), local, remote))
    return 0


def port_pair(text: str) -> tuple[int, int]:
    """`6006` -> (6006, 6006), `8080:80` -> (8080, 80)."""
    local, colon, remote = text.partition(":")
    numbers = [
        int(part) if part.isascii() and part.isdigit() else 0 for part in (local, remote if colon else local)
    ]
    if not all(0 < number < 65536 for number in numbers):
        raise click.BadParameter(f"{text!r} is not PORT or LOCAL:REMOTE", param_hint="PORT")
    return numbers[0], numbers[1]
