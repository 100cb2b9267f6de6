"""Every bad end, from outside: one line and a hint on stderr, or an object on stdout; and the exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING

import click

from launcher.cli.session import NobodyReads
from launcher.errors import LauncherError
from launcher.render.safe import one_line, tamed

if TYPE_CHECKING:
    from launcher.cli.session import Session

USAGE, INTERRUPTED, OURS = 2, 130, 125


def ended(session: Session, error: BaseException) -> int:
    """Say what went wrong; the process's exit code."""
    if isinstance(error, BrokenPipeError | NobodyReads):
        return nobody_reads()
    try:
        return _said(session, error)
    except BrokenPipeError:
        nobody_reads()
        return _code(error)


def report(session: Session, error: LauncherError) -> None:
    """One of ours: `error: …` and `hint: …`, or the JSON object."""
    _tell(session, error.code, error.message, error.hint)


def nobody_reads() -> int:
    """`launcher logs | head`: no complaint, and none at exit either when Python flushes."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    return 0


def _said(session: Session, error: BaseException) -> int:
    if isinstance(error, LauncherError):
        report(session, error)
        if session.verbose:
            _write(traceback.format_exc())
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):
        _write(error.ctx.get_help() if error.ctx else "")
    elif isinstance(error, click.ClickException):
        _tell(session, "usage", error.format_message(), _usage_hint(error))
    elif isinstance(error, KeyboardInterrupt | click.Abort):
        _tell(session, "interrupted", "interrupted", "")
    elif isinstance(error, SystemExit):
        pass
    else:
        _unexpected(session, error)
    return _code(error)


def _code(error: BaseException) -> int:
    if isinstance(error, LauncherError):
        return error.exit_code
    if isinstance(error, click.ClickException):
        return USAGE
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else OURS
    return OURS


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context else "launcher --help"


def _unexpected(session: Session, error: BaseException) -> None:
    text = "".join(traceback.format_exception(error))
    place = _keep(text)
    line = (str(error).splitlines() or [""])[0]
    message = f"{type(error).__name__}: {line}" if line else type(error).__name__
    _tell(
        session,
        "bug",
        f"launcher failed: {message}",
        f"the traceback is in {place}" if place else "-v shows the traceback",
    )
    if session.verbose:
        _write(text)


def _keep(text: str) -> str:
    """Write a traceback into the state folder; where, or nothing if that fails too."""
    from launcher.agent.records import utc

    try:
        from launcher.config import Config

        folder = os.path.join(str(Config().home), "errors")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, f"{utc().replace(':', '')}-{os.getpid()}.txt")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        return path
    except (OSError, LauncherError):
        return ""


def _tell(session: Session, code: str, message: str, hint: str) -> None:
    if session.json:
        error = {"code": code, "message": tamed(message), "hint": tamed(hint)}
        sys.stdout.write(json.dumps({"schema": 1, "error": error}, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return
    _write(f"error: {one_line(message)}\n" + (f"hint: {one_line(hint)}\n" if hint else ""))


def _write(text: str) -> None:
    sys.stderr.write(text.rstrip("\n") + "\n")
    sys.stderr.flush()
