"""The error tree, and the exit code that each kind ends a command with.

    LauncherError            125  anything that launcher or a provider got wrong
    ├── SpecError              2  the job, an option or a name is not valid
    ├── RunNotFound            2  no such run, or several
    ├── Refused              126  refused before it cost anything
    ├── TargetError          125  the place where the run should live said no
    │   ├── AuthError        125  who we are was not accepted (host keys included)
    │   ├── CapacityError    125  nothing free now
    │   ├── Unreachable      125  no answer; says nothing about the run
    │   └── RemoteError      125  it answered with an error
    └── IntegrityError       125  bytes are not what their hash or record says

A job that fails is a result, never an exception.
"""

from __future__ import annotations


class LauncherError(Exception):
    """One clear line (`message`) and what to do about it (`hint`)."""

    exit_code = 125
    code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SpecError(LauncherError):
    exit_code = 2
    code = "spec"


class RunNotFound(LauncherError):
    exit_code = 2
    code = "run-not-found"


class Refused(LauncherError):
    exit_code = 126
    code = "refused"


class TargetError(LauncherError):
    code = "target"


class AuthError(TargetError):
    code = "auth"


class CapacityError(TargetError):
    code = "capacity"


class Unreachable(TargetError):
    code = "unreachable"


class RemoteError(TargetError):
    code = "remote"


class IntegrityError(LauncherError):
    code = "integrity"
