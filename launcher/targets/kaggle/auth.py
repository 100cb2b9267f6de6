"""Who we are for Kaggle: the credentials that lie here, in the official client's order."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launcher.config import Config
from launcher.errors import AuthError

SETTINGS = "https://www.kaggle.com/settings"
HOW = f"on {SETTINGS}, under API, make a new token; then: export KAGGLE_API_TOKEN=KGAT_…"
MOST_BYTES = 1 << 16
SECRET = re.compile(r"[\x21-\x7e]{1,16384}")  # what can stand in a header
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a user


@dataclass(frozen=True)
class Token:
    """An API token."""

    value: str = field(repr=False)
    source: str


@dataclass(frozen=True)
class LegacyKey:
    """A user's name and key, of the kind that kaggle.json holds."""

    user: str
    key: str = field(repr=False)
    source: str


@dataclass(frozen=True)
class OAuthFile:
    """What `kaggle auth login` left: a token that may be renewed."""

    path: Path
    refresh_token: str = field(repr=False)
    access_token: str = field(repr=False)
    expires_at: datetime | None
    user: str

    @property
    def source(self) -> str:
        return str(self.path)


Way = Token | LegacyKey | OAuthFile


@dataclass(frozen=True)
class Credentials:
    """The ways in that were found, the first one first; `notes` say what is wrong with others."""

    ways: tuple[Way, ...]
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where the first one comes from, for people."""
        return self.ways[0].source if self.ways else ""


def credentials(config: Config) -> Credentials:
    """What the environment and the user's home hold; no network. AuthError when there is nothing."""
    ways: list[Way] = []
    notes: list[str] = []
    for look in (_token, _legacy, _oauth):
        try:
            found = look(config)
        except _Useless as error:
            notes.append(str(error))
        else:
            ways += [found] if found else []
    if not ways:
        raise AuthError("; ".join(notes) or "no Kaggle credentials on this machine", HOW)
    return Credentials(tuple(ways), tuple(notes))


class _Useless(Exception):
    """Something is there, and it is no way in."""


def _token(config: Config) -> Token | None:
    """In a notebook of Kaggle's own its token; else the variable (a token or a path), else the file."""
    if config.variable("KAGGLE_KERNEL_RUN_TYPE") and config.variable("KAGGLE_DATA_PROXY_URL"):
        path = config.variable("KAGGLE_API_V1_TOKEN")
        if path and (value := _read(Path(path))):
            return Token(_secret(value, path), path)
    if said := config.variable("KAGGLE_API_TOKEN"):
        if len(said) < 1024 and (value := _read(Path(said))) is not None:
            return Token(_secret(value, said), said)
        return Token(_secret(said, "KAGGLE_API_TOKEN"), "KAGGLE_API_TOKEN")
    for name in ("access_token", "access_token.txt"):
        path_there = config.user_home / ".kaggle" / name
        if value := _read(path_there):
            return Token(_secret(value, str(path_there)), str(path_there))
    return None


def _legacy(config: Config) -> LegacyKey | None:
    """kaggle.json, and the two variables, each of which wins over it."""
    path = _config_folder(config) / "kaggle.json"
    kept, trouble = {}, None
    try:
        kept = _object(path)
    except _Useless as error:
        trouble = error
    user = config.variable("KAGGLE_USERNAME") or str(kept.get("username") or "")
    key = config.variable("KAGGLE_KEY") or str(kept.get("key") or "")
    if user and key:
        source = "KAGGLE_KEY" if config.variable("KAGGLE_KEY") else str(path)
        return LegacyKey(_name(user, source), _secret(key, source), source)
    if trouble:
        raise trouble
    return None


def _oauth(config: Config) -> OAuthFile | None:
    path = config.user_home / ".kaggle" / "credentials.json"
    kept = _object(path)
    refresh = kept.get("refresh_token")
    if not isinstance(refresh, str) or not refresh:
        return None
    access = kept.get("access_token")
    return OAuthFile(
        path,
        _secret(refresh, str(path)),
        _secret(access, str(path)) if isinstance(access, str) and access else "",
        _time(kept.get("access_token_expiration")),
        str(kept.get("username") or ""),
    )


def _config_folder(config: Config) -> Path:
    if chosen := config.variable("KAGGLE_CONFIG_DIR"):
        return Path(chosen)
    folder = config.user_home / ".kaggle"
    if sys.platform.startswith("linux") and not folder.exists():
        return Path(config.variable("XDG_CONFIG_HOME") or config.user_home / ".config") / "kaggle"
    return folder


def _object(path: Path) -> dict[str, Any]:
    text = _read(path)
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _Useless(f"{path} is not JSON as the kaggle command writes it")
    return found


def _read(path: Path) -> str | None:
    """The text of a small file; None when there is none. A pipe or a device is not waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise _Useless(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _Useless(f"{path} is no file")
    with os.fdopen(fd, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise _Useless(f"{path} is too large for credentials")
    return data.decode("utf-8", "replace").strip()


def _secret(value: str, source: str) -> str:
    if not SECRET.fullmatch(value.strip()):
        raise _Useless(f"what {source} holds is no token of Kaggle's")
    return value.strip()


def _name(value: str, source: str) -> str:
    if not NAME.fullmatch(value):
        raise _Useless(f"the user name beside {source} is none of Kaggle's")
    return value


def _time(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found and found.tzinfo is None else found
