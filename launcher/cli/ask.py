"""Questions: asked at a terminal, answered by `-y` where that is allowed, refused where nobody can answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from launcher.errors import AuthError, Refused

if TYPE_CHECKING:
    from launcher.cli.session import Session
    from launcher.runner.context import Question

ANSWERED_BY_YES = ("cost", "size")


def asker(session: Session) -> Callable[[Question], bool]:
    """What the verbs ask through."""

    def ask(question: Question) -> bool:
        if session.yes and question.kind in ANSWERED_BY_YES:
            return True
        if not session.at_terminal():
            raise _nobody(question)
        session.pause()
        return yes(question.text)

    return ask


def yes(text: str) -> bool:
    """Ask at the terminal, on stderr; anything but yes is no."""
    from launcher.render.safe import tamed

    sys.stderr.write(f"{tamed(text)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _nobody(question: Question) -> Exception:
    """Without a terminal a question is never asked. A host key is a matter of trust, not of money: 125."""
    kind = AuthError if question.kind == "host-key" else Refused
    return kind(question.text, f"nobody can answer here; {question.flag} does")
