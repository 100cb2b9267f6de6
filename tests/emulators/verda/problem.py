"""The one way in which a request fails: an HTTP status, a code and a message."""

from __future__ import annotations

CODES = {
    400: "invalid_request",
    401: "unauthorized_request",
    402: "insufficient_funds",
    403: "forbidden_action",
    404: "not_found",
    409: "conflict",
    429: "rate_limit_exceeded",
    500: "server_error",
    503: "service_unavailable",
}


class Problem(Exception):
    """Answered as JSON `{"code", "message"}`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    @property
    def body(self) -> dict[str, str]:
        return {"code": code_of(self.status), "message": self.message}


def code_of(status: int) -> str:
    """The API's own word for an HTTP status."""
    return CODES.get(status, "server_error" if status >= 500 else "invalid_request")
