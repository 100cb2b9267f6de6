"""Signing in with the browser, once: Google's OAuth flow for programs on the user's own machine."""

from __future__ import annotations

import hashlib
import json
import sys
import time
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from google_auth_oauthlib.flow import InstalledAppFlow
from oauthlib.oauth2 import OAuth2Error  # type: ignore[import-untyped]

from launcher.agent import records
from launcher.config import Config
from launcher.errors import AuthError, Unreachable
from launcher.targets.colab.auth import SCOPES, Show
from launcher.targets.colab.credentials import NONSENSE, PEER, TIMEOUT_S, of_user, read
from launcher.targets.colab.wire import secure, short

WAIT_S = 300.0  # for the user in the browser
CONSOLE = "https://console.cloud.google.com/apis/credentials"
DONE = b"<!doctype html><title>launcher</title><p>Signed in. You may close this page.</p>"


def credentials(config: Config, client: Path, show: Show | None, again: bool) -> Any:
    """Of an earlier sign-in with this client file, unless `again`; else of one now."""
    app = _app(client)
    kept = _kept_name(app)
    token = "" if again else _kept(config.read_setting(kept))
    if not token:
        signed_in = _sign_in(app, client, show or _terminal(config))
        with config.editing(kept) as path:
            records.write_durably(
                str(path), json.dumps({"v": 1, "refresh_token": signed_in.refresh_token}).encode(), 0o600
            )
        return signed_in
    return of_user({**app, "refresh_token": token})


def _app(client: Path) -> dict[str, str]:
    """What the client file says of the program that asks: ours is a desktop app."""
    app = read(client).get("installed")
    names = ("client_id", "client_secret", "auth_uri", "token_uri")
    if not isinstance(app, dict) or not all(isinstance(app.get(name), str) for name in names):
        raise AuthError(
            f"{client} is not the file of an OAuth client for a desktop app",
            f"create one at {CONSOLE} (type: Desktop app) and download its JSON",
        )
    if not secure(app["auth_uri"]) or not secure(app["token_uri"]):
        raise AuthError(f"{client} names an address that is not https", f"download it again from {CONSOLE}")
    return {name: app[name] for name in names}


def _kept_name(app: dict[str, str]) -> str:
    return f"colab-{hashlib.sha256(app['client_id'].encode()).hexdigest()[:12]}.json"


def _kept(data: bytes) -> str:
    try:
        token = json.loads(data or b"{}")["refresh_token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return token if isinstance(token, str) else ""


def _sign_in(app: dict[str, str], client: Path, show: Show) -> Any:
    flow = InstalledAppFlow.from_client_config({"installed": app}, SCOPES)
    try:
        with _Desk() as desk:
            flow.redirect_uri = f"http://127.0.0.1:{desk.server_port}/"
            url, state = flow.authorization_url(prompt="consent")
            show(url)
            code = desk.wait(state)
        flow.fetch_token(code=code, timeout=TIMEOUT_S)
        found = flow.credentials
    except requests.RequestException:
        raise Unreachable(f"{PEER} does not answer", "check the network, then try again") from None
    except Warning:  # oauthlib raises one
        raise AuthError(
            "the sign-in does not cover all that Colab needs", "sign in again and leave every box ticked"
        ) from None
    except (OAuth2Error, *NONSENSE) as error:
        raise AuthError(
            f"the sign-in failed: {short(error, 160)}", f"check {client}, then try again"
        ) from None
    finally:
        flow.oauth2session.close()
    if not found.refresh_token:
        raise AuthError("Google gave no lasting sign-in", f"check that {client} is of a desktop app")
    return found


def _terminal(config: Config) -> Show:
    """Shows the address on stderr, and in a browser where there is a screen."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise AuthError(
            "not signed in to Colab, and there is no terminal to ask at",
            "once, at a terminal: `launcher check colab`",
        )

    def show(url: str) -> None:
        sys.stderr.write(f"To use Colab, sign in to Google in a browser of this machine:\n{url}\n")
        sys.stderr.flush()
        if sys.platform == "darwin" or config.variable("DISPLAY") or config.variable("WAYLAND_DISPLAY"):
            webbrowser.open(url)

    return show


class _Desk(HTTPServer):
    """Where Google sends the browser back to, on this machine alone."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.timeout = 1.0
        self.state = ""
        self.answer: dict[str, str] = {}

    def wait(self, state: str) -> str:
        self.state = state
        deadline = time.monotonic() + WAIT_S
        while not self.answer:
            if time.monotonic() > deadline:
                raise AuthError("nobody signed in within five minutes", "try again")
            self.handle_request()
        if "code" not in self.answer:
            raise AuthError(f"the sign-in was refused: {short(self.answer['error'], 80)}", "try again")
        return self.answer["code"]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A visitor that breaks off is none of ours."""


class _Page(BaseHTTPRequestHandler):
    server: _Desk
    timeout = 10.0  # of a visitor that says nothing

    def do_GET(self) -> None:
        told = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        ours = bool(self.server.state) and told.get("state") == self.server.state
        if not ours or not ("code" in told or "error" in told):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(DONE)
        self.server.answer = told

    def log_message(self, format: str, *args: Any) -> None:
        """Not on the user's screen."""
