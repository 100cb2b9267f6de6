"""Finds the credentials that Kaggle accepts, and renews those that can be renewed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import requests

from launcher.agent import records
from launcher.errors import AuthError
from launcher.targets.kaggle import fields
from launcher.targets.kaggle.auth import HOW, NAME, SECRET, Credentials, LegacyKey, OAuthFile, Token, Way
from launcher.targets.kaggle.rpc import Call, Denied, perform
from launcher.targets.kaggle.wire import Wire

LIVES_S = 12 * 3600  # of an access token, as the official client asks
EARLY = timedelta(minutes=5)
REFUSED = (400, 401, 403, 404)


class Login:
    """Signs requests. The first use tries the credentials in their order; `ignored` says which are no good."""

    def __init__(
        self, wire: Wire, credentials: Credentials, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._wire = wire
        self._credentials = credentials
        self._now = now
        self._header = ""
        self._user = ""
        self._way: Way | None = None
        self._lock = threading.RLock()  # a target may ask who we are while something else is asked
        self.ignored: list[str] = list(credentials.notes)

    @property
    def user(self) -> str:
        self._choose()
        return self._user

    @property
    def source(self) -> str:
        """Where the accepted credentials come from."""
        self._choose()
        return self._way.source if self._way else ""

    def sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        self._choose()
        request.headers["Authorization"] = self._header
        return request

    def renew(self) -> bool:
        """After a 401: whether it is worth another try, with a token that was just made."""
        with self._lock:
            if not isinstance(self._way, OAuthFile):
                return False
            try:
                self._take(self._way, self._renewed(self._way))
            except _Refused:
                return False
            return True

    def refused(self, words: str = "") -> AuthError:
        """What to say when all that could be done was refused."""
        said = f" ({words})" if words else ""
        if isinstance(self._way, LegacyKey):
            return AuthError(f"Kaggle refuses the legacy key in {self._way.source}{said}", HOW)
        if isinstance(self._way, OAuthFile):
            return AuthError(
                f"Kaggle refuses the sign-in in {self._way.source}{said}", f"kaggle auth login, or {HOW}"
            )
        source = self._way.source if self._way else self._credentials.source
        return AuthError(f"Kaggle no longer accepts the token in {source}{said}: expired or revoked", HOW)

    def _choose(self) -> None:
        with self._lock:
            if self._way is None:
                self._find()

    def _find(self) -> None:
        self.ignored = list(self._credentials.notes)
        for way in self._credentials.ways:
            try:
                return self._try(way)
            except _Refused as error:
                self.ignored.append(str(error))
        raise AuthError("; ".join(self.ignored), HOW)

    def _try(self, way: Way) -> None:
        if isinstance(way, LegacyKey):
            packed = base64.b64encode(f"{way.user}:{way.key}".encode()).decode()
            self._way, self._user, self._header = way, way.user, f"Basic {packed}"
        elif isinstance(way, OAuthFile):
            lives = way.access_token and way.expires_at and way.expires_at - EARLY > self._now()
            self._take(way, way.access_token if lives else self._renewed(way))
        else:
            self._take(way, way.value)

    def _take(self, way: Token | OAuthFile, token: str) -> None:
        user = way.user if isinstance(way, OAuthFile) and way.user else self._introspected(way, token)
        self._way, self._user, self._header = way, user, f"Bearer {token}"

    def _introspected(self, way: Way, token: str) -> str:
        """Whose token it is."""
        try:
            reply = perform(self._wire, Call("IntrospectToken", {"token": token}))
        except Denied as error:
            if error.status in REFUSED:
                reply = {}
            else:
                raise
        user = fields.text(reply, "username")
        if reply.get("active") is not True or not user:
            raise _Refused(f"the token in {way.source} has expired or was revoked")
        if not NAME.fullmatch(user):
            raise fields.wrong("username", "name")
        return user

    def _renewed(self, way: OAuthFile) -> str:
        """A new access token; it is kept in the file, as the official client does."""
        asked = {
            "refreshToken": way.refresh_token,
            "apiVersion": "API_VERSION_V1",
            "expirationDuration": f"{LIVES_S}s",
        }
        try:
            reply = perform(self._wire, Call("GenerateAccessToken", asked))
        except Denied as error:
            if error.status in REFUSED:
                raise _Refused(f"the sign-in in {way.source} has ended: kaggle auth login") from error
            raise
        token = fields.text(reply, "token")
        if not SECRET.fullmatch(token):
            raise _Refused(f"Kaggle gives no token for the sign-in in {way.source}")
        until = self._now() + timedelta(seconds=fields.number(reply, "expiresIn") or LIVES_S)
        _keep(replace(way, access_token=token, expires_at=until))
        return token


class _Refused(Exception):
    """Kaggle does not take this one."""


def _keep(way: OAuthFile) -> None:
    """The file with its new token, all else in it as it was; a home that cannot be written is no reason to stop."""
    with contextlib.suppress(OSError, ValueError):
        path = os.path.realpath(way.path)
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
        expires = way.expires_at.isoformat() if way.expires_at else ""
        kept.update(access_token=way.access_token, access_token_expiration=expires)
        records.write_durably(path, json.dumps(kept, indent=2).encode())
