"""Google's sign-in as far as a program on the user's machine sees it: a page to consent on, and tokens."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from launcher.targets.colab.auth import SCOPES
from tests.targets.colab.hostile import Hostile, Reply, Seen

CLIENT, SECRET, REFRESH = "client-of-mine", "secret-of-the-client", "refresh-token-of-mine"


@dataclass
class GoogleAccount:
    """On loopback at `server.url`; what it does may be changed at any time."""

    server: Hostile
    scopes: str = " ".join(SCOPES)  # what is granted
    lives_s: int = 3600
    refused: str = ""  # an OAuth error instead of tokens
    consents: bool = True
    refreshes: bool = True  # a lasting sign-in is given
    asked: list[dict[str, str]] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    _challenge: str = ""

    def __post_init__(self) -> None:
        self.server.answers = self._answer

    @property
    def user_file(self) -> dict[str, Any]:
        """As `gcloud auth application-default login` writes it."""
        return {
            "type": "authorized_user",
            "client_id": CLIENT,
            "client_secret": SECRET,
            "refresh_token": REFRESH,
            "token_uri": f"{self.server.url}/token",
        }

    @property
    def client_file(self) -> dict[str, Any]:
        """As the Cloud console offers it for a desktop app."""
        return {
            "installed": {
                "client_id": CLIENT,
                "client_secret": SECRET,
                "auth_uri": f"{self.server.url}/consent",
                "token_uri": f"{self.server.url}/token",
                "redirect_uris": ["http://localhost"],
            }
        }

    def _answer(self, seen: Seen) -> Reply:
        if seen.path.startswith("/consent?"):
            return self._consent(
                {name: values[0] for name, values in parse_qs(urlsplit(seen.path).query).items()}
            )
        form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        self.asked.append(form)
        if self.refused:
            return Reply(
                400, json.dumps({"error": self.refused, "error_description": "Bad Request"}).encode()
            )
        if problem := self._problem(form):
            return Reply(400, json.dumps({"error": problem}).encode())
        self.given.append(f"ya29.token-{len(self.given) + 1}")
        tokens = {"access_token": self.given[-1], "expires_in": self.lives_s, "token_type": "Bearer"}
        tokens |= {"scope": self.scopes}
        if form["grant_type"] == "authorization_code" and self.refreshes:
            tokens |= {"refresh_token": REFRESH}
        return Reply(200, json.dumps(tokens).encode(), {"Content-Type": "application/json"})

    def _consent(self, query: dict[str, str]) -> Reply:
        self._challenge = query["code_challenge"]
        assert query["code_challenge_method"] == "S256"
        assert set(query["scope"].split()) == set(SCOPES)
        told = {"code": "code-from-the-page"} if self.consents else {"error": "access_denied"}
        back = f"{query['redirect_uri']}?{urlencode({**told, 'state': query['state']})}"
        return Reply(302, b"", {"Location": back})

    def _problem(self, form: dict[str, str]) -> str:
        if form["grant_type"] == "authorization_code":
            proof = hashlib.sha256(form["code_verifier"].encode()).digest()
            proved = base64.urlsafe_b64encode(proof).decode().rstrip("=") == self._challenge
            return "" if proved and form["code"] == "code-from-the-page" else "invalid_grant"
        if form["grant_type"] == "refresh_token":
            mine = (form["refresh_token"], form["client_id"], form["client_secret"]) == (
                REFRESH,
                CLIENT,
                SECRET,
            )
            return "" if mine else "invalid_grant"
        return (
            ""
            if form["grant_type"].endswith("jwt-bearer") and form["assertion"].count(".") == 2
            else "invalid_grant"
        )


def written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path
