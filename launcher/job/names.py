"""Which names a job, a variable and a secret may have."""

from __future__ import annotations

import re

from launcher.errors import SpecError
from launcher.job.units import shown

NAME = r"(?!last$)[a-z0-9][a-z0-9-]{0,40}"
IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
ENV_NAME = rf"(?!LAUNCHER_){IDENTIFIER}"


def job_name(text: str) -> str:
    if text == "last":
        raise SpecError("'last' is not a name", "it always means the newest run: choose another")
    if not re.fullmatch(NAME, text):
        hint = "write a-z, 0-9 and -, beginning with a letter or digit, at most 41 characters"
        raise SpecError(f"{shown(text)} is not a name", hint)
    return text


def env_name(text: str) -> str:
    """A variable or a secret of the job; those that begin with LAUNCHER_ are ours."""
    if text.startswith("LAUNCHER_"):
        raise SpecError(
            f"{shown(text)} is set by launcher itself", "choose a name that does not begin with LAUNCHER_"
        )
    if not re.fullmatch(ENV_NAME, text):
        raise SpecError(
            f"{shown(text)} is not the name of a variable", "write letters, digits and _, like HF_TOKEN"
        )
    return text


def identifier(text: str) -> str:
    """A param: what `{…}` in a command can name."""
    if not re.fullmatch(IDENTIFIER, text):
        raise SpecError(
            f"{shown(text)} is not the name of a param", "write letters, digits and _, like batch_size"
        )
    return text
