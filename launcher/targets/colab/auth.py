"""Who we are for Colab: a token, Google's Application Default Credentials, or a sign-in with the browser."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launcher.config import Config
from launcher.errors import AuthError, Refused

SCOPES = (
    "openid",
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/colaboratory",
)
LOGIN = f"gcloud auth application-default login --scopes={','.join(SCOPES)}"
VARIABLE = "LAUNCHER_COLAB_TOKEN"
PACKAGES = ("google.auth", "google_auth_oauthlib", "websocket")
ADC = "application_default_credentials.json"

Show = Callable[[str], None]  # the address of the sign-in page -> the user's eyes


def token_source(config: Config, options: Mapping[str, Any], show: Show | None = None) -> Callable[[], str]:
    """Gives an access token that is good now, each time it is called; AuthError says what to type.

    In this order: LAUNCHER_COLAB_TOKEN; the OAuth client file of the target's option `client` (signs in with the
    browser at first use, which needs a terminal); Application Default Credentials. Cheap: files and network are
    touched at the first call of what it returns, not here. Refused when the `colab` extra is not installed.
    """
    require_packages()
    if token := config.variable(VARIABLE):
        return lambda: _checked(token.strip())
    if client := options.get("client"):
        path = _path(config, str(client))

        def signed_in(again: bool) -> Any:
            from launcher.targets.colab import signin

            return signin.credentials(config, path, show, again)

        return _Source(signed_in, "sign in again at a terminal: `launcher check colab`", may_ask=True)

    def default(again: bool) -> Any:
        from launcher.targets.colab import credentials

        return credentials.of_file(_adc(config))

    return _Source(default, LOGIN, may_ask=False)


def has_credentials(config: Config, options: Mapping[str, Any]) -> bool:
    """Whether there is anything to try, without network and without a question."""
    return bool(config.variable(VARIABLE) or options.get("client") or _adc_path(config).is_file())


def require_packages() -> None:
    """Refused without the packages that only Colab needs."""
    try:
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    except ModuleNotFoundError:
        missing = ["google.auth"]
    if missing:
        raise Refused(
            f"Colab needs packages that are not installed ({', '.join(missing)})",
            "pip install 'gpu-launcher[colab]'",
        )


class _Source:
    """Refreshes in time; one thread does it for all."""

    def __init__(self, load: Callable[[bool], Any], hint: str, may_ask: bool) -> None:
        self._load = load
        self._hint = hint
        self._may_ask = may_ask
        self._lock = threading.Lock()
        self._credentials: Any = None

    def __call__(self) -> str:
        from launcher.targets.colab import credentials

        with self._lock:
            if self._credentials is None:
                self._credentials = self._load(False)
            if not self._credentials.valid:
                try:
                    credentials.refresh(self._credentials, self._hint)
                except AuthError:
                    if not self._may_ask:
                        raise
                    self._credentials = self._load(True)
            return _checked(str(self._credentials.token))


def _checked(token: str) -> str:
    """As a header can carry it."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise AuthError(f"{VARIABLE} does not hold an access token", f"unset it and type: {LOGIN}")
    return token


def _adc(config: Config) -> Path:
    path = _adc_path(config)
    if path.is_file():
        return path
    if config.variable("GOOGLE_APPLICATION_CREDENTIALS"):
        raise AuthError(
            f"GOOGLE_APPLICATION_CREDENTIALS names {path}, which is not there", "correct it, or unset it"
        )
    raise AuthError("not signed in to Colab", f"type: {LOGIN} (or see docs/free-tiers.md for other ways)")


def _adc_path(config: Config) -> Path:
    """Where Google's own libraries look; the machine's own account (on Google's servers) has no Colab."""
    if named := config.variable("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(named)
    if folder := config.variable("CLOUDSDK_CONFIG"):
        return Path(folder) / ADC
    return config.user_home / ".config" / "gcloud" / ADC


def _path(config: Config, text: str) -> Path:
    """`~` is the user's home; what is relative lies beside targets.yaml."""
    return config.user_home / text[2:] if text.startswith("~/") else config.config_dir / text
