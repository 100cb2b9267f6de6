"""The one way in which a request fails: a status and a message."""

from __future__ import annotations


class Problem(Exception):
    """Answered as JSON `{"code", "message"}` with the same HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def denied(permission: str) -> Problem:
    """What Kaggle says of things that are not yours and of things that are not there."""
    return Problem(403, f"Permission '{permission}' was denied")
