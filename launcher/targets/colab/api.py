"""Colab's account side: runtimes given, found again, refreshed and handed back; what is left of the quota."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from launcher.target import Quota

URL = "https://colab.research.google.com"
USAGE_URL = "https://colab.pa.googleapis.com"


@dataclass(frozen=True)
class Wanted:
    """A runtime to ask for. `notebook_id` is a UUID: the same one gets the same runtime again."""

    notebook_id: str
    accelerator: str = ""  # T4, L4, A100, H100, G4; "": CPU
    high_memory: bool = False
    version: str = ""  # runtime version label, e.g. 2026.07; "": the latest


@dataclass(frozen=True)
class Runtime:
    """A runtime of the account. `accelerator` is what was really given ("" for CPU); `expires_at` in time.time()."""

    endpoint: str
    accelerator: str
    url: str
    token: str = field(repr=False)
    expires_at: float
    high_memory: bool = False


@dataclass(frozen=True)
class Account:
    """What the account may have and has left; units are compute units. None: Colab did not say."""

    accelerators: tuple[str, ...] = ()  # GPUs that it may ask for
    paid_units: float = 0.0
    free_units: float | None = None
    free_refill_at: str = ""  # ISO 8601, UTC
    units_per_hour: float = 0.0  # what all its runtimes spend now
    runtimes: int = 0


class ColabAPI:
    """`url`: config.base_url("LAUNCHER_COLAB_URL", api.URL); `token`: auth.token_source(…). Threads may share it."""

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        raise NotImplementedError

    def assign(self, wanted: Wanted) -> Runtime:
        """The notebook's runtime: the one it has, else a new one; a lost answer is looked for, never asked twice.

        CapacityError: no capacity, quota spent, too many runtimes. Refused: the account cannot have this accelerator,
        memory or version. AuthError: not signed in, or the account is blocked. Unreachable: it may or may not be there
        (`find` tells). The accelerator given may be another one than was asked for: compare.
        """
        raise NotImplementedError

    def find(self, wanted: Wanted) -> Runtime | None:
        """The runtime that this notebook has; None when it has none. Creates nothing."""
        raise NotImplementedError

    def assignments(self) -> list[Runtime]:
        """All runtimes of the account, each with a fresh proxy token."""
        raise NotImplementedError

    def refresh(self, endpoint: str) -> Runtime | None:
        """The runtime with a fresh proxy token; None: it was taken back."""
        raise NotImplementedError

    def unassign(self, endpoint: str) -> None:
        """Hand a runtime back; fine when it is gone already."""
        raise NotImplementedError

    def keep_alive(self, endpoint: str) -> bool:
        """Say that somebody is there; False: the runtime is gone. No answer counts as yes, as Colab does it."""
        raise NotImplementedError

    def account(self) -> Account:
        """What the account may have and has left."""
        raise NotImplementedError

    def usage(self, target: str = "colab") -> list[Quota]:
        """The account's compute units, paid and free, as `launcher quota` shows them."""
        raise NotImplementedError
