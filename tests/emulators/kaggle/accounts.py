"""Accounts: who asks, by token, key or OAuth, and what GPU hours are left."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.emulators.kaggle.problem import Problem

WEEK_S = 30 * 3600.0
IN_KERNEL = "in-kernel:"
FOR_SECRETS = "secrets:"


@dataclass
class Account:
    """`tokens` maps each access token to when it ends (wall clock)."""

    name: str
    tokens: dict[str, float] = field(default_factory=dict)
    key: str = ""
    refresh_token: str = ""
    phone_verified: bool = True  # else sessions have no internet, whatever was asked
    secrets: dict[str, str] = field(default_factory=dict)  # Kaggle Secrets, attached to all notebooks
    gpu_allowed_s: float = WEEK_S
    gpu_used_s: float = 0.0
    running_s: Callable[[], float] = lambda: 0.0  # GPU seconds of sessions that are not over

    @property
    def gpu_spent_s(self) -> float:
        return self.gpu_used_s + self.running_s()

    @property
    def gpu_left_s(self) -> float:
        return max(0.0, self.gpu_allowed_s - self.gpu_spent_s)

    def token(self, prefix: str = "KGAT_", lives_s: float = 12 * 3600) -> str:
        """A further access token."""
        made = prefix + secrets.token_hex(16)
        self.tokens[made] = time.time() + lives_s
        return made

    def expire(self) -> None:
        """All access tokens end now; those of running sessions live on."""
        self.tokens = {
            token: 0.0 if token.startswith("KGAT_") else until for token, until in self.tokens.items()
        }


class Accounts:
    """All accounts by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Account] = {}

    def add(self, name: str) -> Account:
        account = Account(name, key=secrets.token_hex(16), refresh_token="KGRT_" + secrets.token_hex(16))
        self.by_name[name] = account
        return account

    def of_token(self, token: str) -> Account | None:
        for account in self.by_name.values():
            if account.tokens.get(token, 0.0) > time.time():
                return account
        return None

    def asking(self, authorization: str, legacy_refused: bool) -> tuple[Account, bool]:
        """Who sends this header, and whether it is a session's own token; 401 otherwise."""
        kind, _, value = authorization.partition(" ")
        account = None
        if kind == "Bearer" and not value.startswith(FOR_SECRETS):
            account = self.of_token(value)
        elif kind == "Basic" and not legacy_refused:
            account = self._of_key(value)
        if account is None:
            raise Problem(401, "Unauthenticated")
        return account, value.startswith(IN_KERNEL)

    def _of_key(self, value: str) -> Account | None:
        try:
            name, _, key = base64.b64decode(value).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        account = self.by_name.get(name)
        return account if account and secrets.compare_digest(account.key, key) else None

    def introspect(self, token: str) -> dict[str, object]:
        account = self.of_token(token)
        return {"active": True, "username": account.name} if account else {"active": False}

    def generate(self, refresh_token: str) -> dict[str, object]:
        """A new access token for `kaggle auth login`'s refresh token."""
        for account in self.by_name.values():
            if refresh_token and account.refresh_token == refresh_token:
                return {"token": account.token(), "expiresIn": 12 * 3600}
        raise Problem(401, "Invalid refresh token")


def quota(account: Account) -> dict[str, object]:
    """The answer of GetAcceleratorQuotaStatistics."""
    now = datetime.now(UTC)
    saturday = (now + timedelta(days=(5 - now.weekday()) % 7 or 7)).replace(hour=0, minute=0, second=0)
    gpu = {
        "timeUsed": f"{account.gpu_spent_s:.3f}s",
        "timeReserved": "0s",
        "totalTimeAllowed": f"{account.gpu_allowed_s:.0f}s",
        "minimumTimeAllowed": f"{WEEK_S:.0f}s",
        "hasEverRun": account.gpu_spent_s > 0,
    }
    tpu = {
        "timeUsed": "0s",
        "timeReserved": "0s",
        "totalTimeAllowed": "72000s",
        "minimumTimeAllowed": "72000s",
    }
    refresh = saturday.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {"quotaRefreshTime": refresh, "gpuQuota": gpu, "tpuQuota": tpu}
