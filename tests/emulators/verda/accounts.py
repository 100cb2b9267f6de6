"""Who asks: client credentials and the tokens that they are exchanged for."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.verda.problem import Problem

GRACE_S = 60.0  # for clients whose clock is late
SCOPE = "cloud-api-v1"


@dataclass
class Credential:
    """A pair of Cloud API credentials of the project."""

    client_id: str = field(default_factory=lambda: secrets.token_urlsafe(15))
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    actor_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    revoked: bool = False


@dataclass
class _Token:
    credential: Credential
    until: float  # wall clock
    refreshes: bool = False


class Accounts:
    """The project's credentials; all of them may do everything."""

    def __init__(self, token_wall_s: float) -> None:
        self.token_wall_s = token_wall_s
        self.credentials: list[Credential] = []
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()

    def add(self) -> Credential:
        self.credentials.append(Credential())
        return self.credentials[-1]

    def expire(self) -> None:
        """All access tokens end now; refresh tokens live on."""
        with self._lock:
            self._tokens = {text: one for text, one in self._tokens.items() if one.refreshes}

    def token(self, body: dict[str, Any]) -> dict[str, Any]:
        """POST /oauth2/token."""
        kind = body.get("grant_type")
        if kind == "client_credentials":
            return self._issue(self._of_secret(body))
        if kind == "refresh_token":
            return self._issue(self._of(str(body.get("refresh_token")), True, "Invalid refresh token"))
        raise Problem(400, "unsupported grant type")

    def asking(self, authorization: str) -> Credential:
        """Whose token this header carries; 401 otherwise."""
        kind, _, text = authorization.partition(" ")
        return self._of(text if kind == "Bearer" else "", False, "Access token is missing or invalid")

    def _of(self, text: str, refreshes: bool, message: str) -> Credential:
        with self._lock:
            found = self._tokens.get(text)
        if not found or found.refreshes != refreshes or found.until < time.time() or found.credential.revoked:
            raise Problem(401, message)
        return found.credential

    def _of_secret(self, body: dict[str, Any]) -> Credential:
        for one in self.credentials:
            given = (body.get("client_id"), body.get("client_secret"))
            if (one.client_id, one.client_secret) == given and not one.revoked:
                return one
        raise Problem(401, "Invalid client id or client secret")

    def _issue(self, credential: Credential) -> dict[str, Any]:
        access, refresh = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        with self._lock:
            self._tokens[access] = _Token(credential, time.time() + self.token_wall_s + GRACE_S)
            self._tokens[refresh] = _Token(credential, time.time() + 30 * 24 * 3600, refreshes=True)
        return {
            "access_token": access,
            "refresh_token": refresh,
            "scope": SCOPE,
            "token_type": "Bearer",
            "expires_in": self.token_wall_s,
        }
