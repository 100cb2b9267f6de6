"""Google's credentials, read from files and refreshed over our own HTTP: bounded, timed, errors in one line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google.auth
from google.auth import exceptions, transport
from google.oauth2 import credentials as user
from google.oauth2 import service_account

from launcher.errors import AuthError, Unreachable
from launcher.targets.colab.auth import LOGIN, SCOPES
from launcher.targets.colab.wire import Answer, Call, Wire, secure, short

PEER = "Google's sign-in"
User: Any = user.Credentials  # google-auth has types for little of what it offers
ServiceAccount: Any = service_account.Credentials
load_any: Any = google.auth.load_credentials_from_dict
TOKEN_URI = "https://oauth2.googleapis.com/token"
NONSENSE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)  # how foreign code takes it
TIMEOUT_S = 30.0
FILE_BYTES = 1 << 20


def of_file(path: Path) -> Any:
    """Credentials with the rights that Colab needs, from a file of gcloud's or a service account's key."""
    info = read(path)
    token_uri = info.get("token_uri")
    if token_uri is not None and not (isinstance(token_uri, str) and secure(token_uri)):
        raise AuthError(f"{path}: token_uri is not an https address", "get a new file: " + LOGIN)
    try:
        return _of_info(info)
    except (exceptions.GoogleAuthError, *NONSENSE) as error:
        raise AuthError(f"{path} holds no usable credentials: {short(error, 120)}", LOGIN) from None


def read(path: Path) -> dict[str, Any]:
    """A JSON object of Google's on this disk."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(FILE_BYTES))
    except OSError as error:
        raise AuthError(f"cannot read {path}: {error.strerror}", "correct its path or its rights") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise AuthError(f"{path} is not one of Google's credential files", LOGIN)
    return found


def refresh(credentials: Any, hint: str) -> None:
    """A fresh access token; AuthError when Google takes these credentials no more."""
    try:
        credentials.refresh(Transport())
    except exceptions.RefreshError as error:
        what = short(error.args[0] if error.args else "", 160)
        if error.retryable:
            raise Unreachable(f"{PEER} does not work now: {what}", "try again") from None
        raise AuthError(f"Google does not accept the sign-in any more: {what}", hint) from None
    except exceptions.GoogleAuthError as error:
        raise Unreachable(f"{PEER} does not work now: {short(error, 160)}", "try again") from None
    except NONSENSE as error:
        raise AuthError(
            f"{PEER} answered with something else than a token: {short(error, 80)}", hint
        ) from None


def _of_info(info: Mapping[str, Any]) -> Any:
    if info.get("type") == "authorized_user":
        return of_user(info)
    if info.get("type") == "service_account":
        return ServiceAccount.from_service_account_info(info, scopes=SCOPES)
    with warnings.catch_warnings():  # for files from strangers; this one is the user's own
        warnings.simplefilter("ignore")
        return load_any(dict(info), scopes=SCOPES)[0]


def of_user(info: Mapping[str, Any]) -> Any:
    """Of somebody who has signed in. google-auth's own reader leaves the file's token_uri aside."""
    parts = {name: info.get(name) for name in ("refresh_token", "client_id", "client_secret")}
    for name, value in parts.items():
        if not isinstance(value, str) or not value:
            raise ValueError(f"it has no {name}")
    return User(None, **parts, token_uri=info.get("token_uri", TOKEN_URI), scopes=SCOPES)


class Transport(transport.Request):
    """What google-auth makes its requests with."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Any = None,
        timeout: Any = None,
        **kwargs: Any,
    ) -> Any:
        data = body.encode() if isinstance(body, str) else body
        wire = Wire(PEER)
        try:
            return _Response(wire.once(Call(method, url, headers=headers or {}, body=data, read_s=TIMEOUT_S)))
        finally:
            wire.close()


class _Response(transport.Response):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    @property
    def data(self) -> bytes:
        return self._answer.body
