"""What Colab asks and tells, as values: requests for a runtime, runtimes, the account (pure)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from launcher.errors import RemoteError
from launcher.target import Quota
from launcher.targets.colab.wire import number, secure, short

ENDPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
TOKEN = re.compile(r"[!-~]{1,16384}")
NBH_LENGTH = 44
HIGH_MEMORY = 1  # machineShape
TOKEN_S = 3600.0  # a proxy token's life where Colab does not tell
UNITS = "compute units"


@dataclass(frozen=True)
class Wanted:
    """A runtime to ask for. `notebook_id` is a UUID: the same one gets the same runtime again."""

    notebook_id: str
    accelerator: str = ""  # T4, L4, A100, H100, G4; "": CPU
    high_memory: bool = False
    version: str = ""  # runtime version label, e.g. 2026.07; "": the latest


@dataclass(frozen=True)
class Runtime:
    """A runtime of the account. `accelerator` is what was really given ("" for CPU).

    `expires_at` and `renew_at` are moments of time.time(): of the token's end, and of when to get a fresh one.
    """

    endpoint: str
    accelerator: str
    url: str
    token: str = field(repr=False)
    expires_at: float
    high_memory: bool = False
    renew_at: float = 0.0


@dataclass(frozen=True)
class Account:
    """What the account may have and has left; units are compute units. None: Colab did not say."""

    accelerators: tuple[str, ...] = ()  # GPUs that it may ask for
    paid_units: float = 0.0
    free_units: float | None = None
    free_refill_at: str = ""  # ISO 8601, UTC
    units_per_hour: float = 0.0  # what all its runtimes spend now
    runtimes: int = 0


def query(wanted: Wanted) -> dict[str, str]:
    """A request for a runtime."""
    asked = {"nbh": wanted.notebook_id.replace("-", "_").ljust(NBH_LENGTH, ".")}
    if wanted.accelerator:
        asked |= {"variant": "GPU", "accelerator": wanted.accelerator}
    else:
        asked |= {"variant": "DEFAULT"}
    asked |= {"shape": "hm"} if wanted.high_memory else {}
    asked |= {"runtime_version_label": wanted.version} if wanted.version else {}
    return asked


def runtime(found: object, plain: bool) -> Runtime:
    """One of Colab's descriptions of a runtime. `plain`: http to this machine is accepted, as for tests."""
    info = found.get("runtimeProxyInfo") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(info, dict):
        raise _unclear("no way to it")
    endpoint, token, url = found.get("endpoint"), info.get("token"), info.get("url")
    if not isinstance(endpoint, str) or not ENDPOINT.fullmatch(endpoint):
        raise _unclear(f"the name {short(endpoint, 40)!r}")
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise _unclear("no proxy token")
    if not isinstance(url, str) or not _acceptable(url, plain):
        raise _unclear(f"the address {short(url, 80)!r}")
    lives_s = number(info.get("tokenExpiresInSeconds")) or TOKEN_S
    now, accelerator = time.time(), str(found.get("accelerator") or "NONE").upper()
    return Runtime(
        endpoint=endpoint,
        accelerator="" if accelerator == "NONE" else short(accelerator, 40),
        url=url.rstrip("/"),
        token=token,
        expires_at=now + lives_s,
        high_memory=found.get("machineShape") == HIGH_MEMORY,
        renew_at=now + lives_s - min(60.0, lives_s / 10),
    )


def account(found: Mapping[str, Any]) -> Account:
    """What `user-info` or `ccu-info` said."""
    free = found.get("freeCcuQuotaInfo")
    free = free if isinstance(free, dict) else {}
    return Account(
        accelerators=_gpus(found),
        paid_units=number(found.get("paidComputeUnitsBalance", found.get("currentBalance"))),
        free_units=number(free["remainingTokens"]) / 1000 if "remainingTokens" in free else None,
        free_refill_at=_moment(number(free.get("nextRefillTimestampSec"))),
        units_per_hour=number(found.get("consumptionRateHourly")),
        runtimes=int(number(found.get("assignmentsCount"))),
    )


def quotas(known: Account, target: str) -> list[Quota]:
    """The lines of `launcher quota`."""
    notes = (
        [f"may ask for {', '.join(known.accelerators)}"]
        if known.accelerators
        else ["no GPU for this account now"]
    )
    if known.runtimes:
        notes.append(f"{known.runtimes} running, {known.units_per_hour:g} units an hour")
    paid = Quota(target, UNITS, UNITS, left=known.paid_units, notes=tuple(notes))
    if known.free_units is None:
        return [paid]
    free = Quota(target, f"free {UNITS}", UNITS, left=known.free_units, refreshes_at=known.free_refill_at)
    return [paid, free]


def _gpus(found: Mapping[str, Any]) -> tuple[str, ...]:
    """GPUs alone: from a flat list, or from one with a variant at each."""
    names = found.get("eligibleGpus")
    if not isinstance(names, list):
        listed = found.get("eligibleAccelerators")
        by_variant = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        names = [
            name
            for one in by_variant
            if one.get("variant") in ("VARIANT_GPU", "GPU", 1) and isinstance(one.get("models"), list)
            for name in one["models"]
        ]
    return tuple(short(name, 20) for name in names[:50])


def _acceptable(url: str, plain: bool) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    bare = not (parts.username or parts.query or parts.fragment) and len(url) < 2000
    return bare and secure(url) and (plain or parts.scheme == "https")


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds > 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""


def _unclear(what: str) -> RemoteError:
    return RemoteError(
        f"Colab described a runtime with {what}", "try again; if it stays, this version is too old"
    )
