"""Drives a verb that yields events: shows them, turns Ctrl-C into a detach, and finds the exit code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from launcher.cli.ending import INTERRUPTED, nobody_reads
from launcher.cli.interrupt import Interrupts
from launcher.errors import LauncherError, RunNotFound
from launcher.events import Event, Result

if TYPE_CHECKING:
    from launcher.cli.session import Session
    from launcher.run import Run


def follow(session: Session, events: Iterator[Event], run_id: str = "", raw: bool = False) -> int:
    """Show a run's events to its end; the process's exit code. `run_id`: the run, if known before."""
    screen = session.screen(raw)
    result = None
    with Interrupts() as interrupts:
        try:
            for event in events:
                run_id = run_id or getattr(event, "run_id", "")
                screen.show(event)
                result = event if isinstance(event, Result) else result
        except LauncherError as error:
            raise _with_a_way_on(session, run_id, error) from error
        except (KeyboardInterrupt, BrokenPipeError) as error:
            _close(events)
            screen.pause()
            if isinstance(error, BrokenPipeError):
                nobody_reads()
            code = detached(session, run_id)
            if isinstance(error, KeyboardInterrupt) and session.at_terminal() and run_id:
                _perhaps_cancel(session, run_id, interrupts)
            return code
        finally:
            screen.close()
    if result:
        session.next(what_next(result))
    return result.exit_code if result else 0


def work(session: Session, events: Iterable[Event], raw: bool = False) -> int:
    """Show the events of a verb that is not the following of a run; the process's exit code."""
    try:
        result = shown(session, events, raw)
    except KeyboardInterrupt:
        session.say("interrupted; the same command goes on from here")
        return INTERRUPTED
    if result is None and session.json:  # a stream always ends with one
        session.screen().show(Result("", "", 0))
    return result.exit_code if result else 0


def shown(session: Session, events: Iterable[Event], raw: bool = False) -> Result | None:
    """Show events to their end; the last result. Ctrl-C lets the verb clean up."""
    screen = session.screen(raw)
    result = None
    with Interrupts():
        try:
            for event in events:
                if isinstance(event, Result):
                    result = event
                if session.json or not isinstance(event, Result):  # the end of the verb is not the run's
                    screen.show(event)
        finally:
            _close(events)
            screen.close()
    return result


def detached(session: Session, run_id: str) -> int:
    """Say how to go on and how to stop; the job goes on without this terminal once it was handed over."""
    run = _recorded(session, run_id)
    if run is None:
        session.say("interrupted; nothing was started")
    elif run.newest and run.newest.handed_over:
        session.say(f"detached; {run.id} goes on by itself")
        session.say(f"go on following: launcher attach {run.id}")
        session.say(f"stop it:         launcher cancel {run.id}")
    else:
        session.say(f"interrupted before {run.id} had started")
        session.remind()
        session.say(f"finish it: launcher attach {run.id}")
        session.say(f"undo it:   launcher release {run.id}")
    if session.json:
        state = run.state.value if run else "pending"
        session.screen().show(Result(run_id, state, INTERRUPTED, "detached" if run else "interrupted"))
    return INTERRUPTED


def what_next(result: Result) -> list[str]:
    """The commands that make sense after a verb ended so."""
    run = result.run_id
    if not run:
        return []
    if result.state == "succeeded":
        return [f"launcher status {run}", f"launcher release {run}"]
    if result.state in ("timed_out", "preempted", "lost", "cancelled"):
        return [f"launcher resume {run}", f"launcher release {run}"]
    if result.state == "failed":
        return [f"launcher logs {run} -n 50", f"launcher release {run}"]
    if result.state == "pending" and "notebook" in result.detail:
        return [f"launcher pull {run} --from-folder DIR"]
    return [f"launcher attach {run}", f"launcher cancel {run}"]


def _perhaps_cancel(session: Session, run_id: str, interrupts: Interrupts) -> None:
    from launcher.cli.ask import yes

    session.say("(Ctrl-C again now asks whether to cancel it)")
    if not interrupts.again() or not yes(f"cancel {run_id}?"):
        return
    from launcher.runner.control import cancel

    for event in cancel(session.context, session.run(run_id), 60.0):
        session.screen().show(event)


def _with_a_way_on(session: Session, run_id: str, error: LauncherError) -> LauncherError:
    """A submission that stopped half-way can be finished or undone."""
    run = None if error.hint else _recorded(session, run_id)
    if run and run.newest and not run.newest.handed_over and not run.state.final:
        error.hint = f"launcher attach {run.id} tries again from there, launcher release {run.id} undoes it"
    return error


def _recorded(session: Session, run_id: str) -> Run | None:
    try:
        return session.run(run_id) if run_id else None
    except RunNotFound:
        return None


def _close(events: Iterable[Event]) -> None:
    close = getattr(events, "close", None)
    if close:
        close()
