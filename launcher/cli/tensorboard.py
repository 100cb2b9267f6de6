"""tensorboard: the event files of runs, in one TensorBoard on this machine."""

from __future__ import annotations

import contextlib
import sys

import click

from launcher.cli.session import Session
from launcher.cli.verb import verb, with_session


@verb("tensorboard", runs=True)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Instead of any free one."
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@with_session
def tensorboard_command(session: Session, runs: tuple[str, ...], port: int, no_browser: bool) -> None:
    """Show runs in one TensorBoard here, living ones as they go, until Ctrl-C.

    Shows the event files that a job writes anywhere below $LAUNCHER_OUT; where it writes none, metrics.jsonl.
    """
    from launcher.cli.interrupt import Interrupts
    from launcher.runner.tensorboard import Address, tensorboard

    chosen = session.runs(runs)
    screen = session.screen()
    with contextlib.suppress(KeyboardInterrupt), Interrupts():  # its only end
        with contextlib.closing(tensorboard(session.context, chosen, port)) as events:
            for event in events:
                if isinstance(event, Address):
                    answer = {"url": event.url, "runs": list(event.runs)}
                    session.tell(answer, lambda url=event.url: url)  # type: ignore[misc]
                    _open(session, event.url, no_browser)
                else:
                    screen.show(event)


def _open(session: Session, url: str, no_browser: bool) -> None:
    """In a browser, where a person has one with windows: a text browser would take the terminal."""
    variables = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    windows = sys.platform == "darwin" or any(session.config.variable(name) for name in variables)
    if session.at_terminal() and not no_browser and windows:
        import webbrowser

        webbrowser.open(url)
    if session.at_terminal():
        session.say("Ctrl-C ends it")
