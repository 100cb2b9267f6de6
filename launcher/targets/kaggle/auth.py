"""Who we are for Kaggle: an API token, a legacy key or the OAuth file, in the official client's order."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.config import Config


@dataclass(frozen=True)
class Credentials:
    """The ways in that were found, in the official order; `source` of the first says where it came from."""

    source: str = ""


def credentials(config: Config) -> Credentials:
    """What the environment and the user's home hold; no network. AuthError when there is nothing."""
    raise NotImplementedError
