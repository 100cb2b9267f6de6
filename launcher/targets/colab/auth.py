"""Who we are for Colab: a token, Google's Application Default Credentials, or a sign-in with the browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from launcher.config import Config

SCOPES = (
    "openid",
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/colaboratory",
)


def token_source(config: Config, options: Mapping[str, Any]) -> Callable[[], str]:
    """Gives an access token that is good now, each time it is called; AuthError says what to type.

    In this order: LAUNCHER_COLAB_TOKEN; the OAuth client file of the target's option `client` (signs in with the
    browser at first use, which needs a terminal); Application Default Credentials. Cheap: files and network are
    touched at the first call of what it returns, not here.
    """
    raise NotImplementedError


def has_credentials(config: Config, options: Mapping[str, Any]) -> bool:
    """Whether there is anything to try, without network and without a question."""
    raise NotImplementedError
