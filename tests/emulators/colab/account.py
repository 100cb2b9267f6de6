"""The account behind the emulated Colab: what it may have, what it has left, and why it is refused."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from tests.emulators.colab.faults import Faults
from tests.emulators.colab.settings import EXCEEDED, GPU_MODELS, SHAPES, TPUS, VARIANTS, Settings
from tests.emulators.colab.wire import Answer, Request, guarded_json

NBH_LENGTH = 44


@dataclass(frozen=True)
class Wish:
    """What a request for a runtime asks for."""

    nbh: str
    variant: str
    accelerator: str
    shape: str | None
    label: str | None


class Account:
    """Compute units: paid ones first, then the free quota, in milli-units."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.balance = settings.balance
        self.free_milli_units = settings.free_milli_units

    def charge(self, units: float) -> None:
        paid = min(units, self.balance)
        self.balance -= paid
        self.free_milli_units = max(0.0, self.free_milli_units - 1000 * (units - paid))

    @property
    def exhausted(self) -> bool:
        return self.balance <= 0 and self.free_milli_units <= 0

    def ccu_info(self, accelerators: list[str]) -> dict[str, object]:
        """`/tun/m/ccu-info`; the numbers that count only paid units are zero without any."""
        gpus = list(self.settings.gpus)
        return {
            "currentBalance": self.balance,
            "consumptionRateHourly": self._rate(accelerators),
            "assignmentsCount": len(accelerators),
            "eligibleGpus": gpus,
            "ineligibleGpus": [name for name in GPU_MODELS if name not in gpus],
            "eligibleTpus": [],
            "ineligibleTpus": list(TPUS),
            "freeCcuQuotaInfo": self._free(),
        }

    def user_info(self, accelerators: list[str]) -> dict[str, object]:
        """`/v1/user-info?get_ccu_consumption_info=true`."""
        gpus = list(self.settings.gpus)
        others = [name for name in GPU_MODELS if name not in gpus]
        return {
            "subscriptionTier": "SUBSCRIPTION_TIER_NONE",
            "paidComputeUnitsBalance": self.balance,
            "consumptionRateHourly": self._rate(accelerators),
            "assignmentsCount": len(accelerators),
            "eligibleAccelerators": [{"variant": "VARIANT_GPU", "models": gpus}],
            "ineligibleAccelerators": [
                {"variant": "VARIANT_GPU", "models": others},
                {"variant": "VARIANT_TPU", "models": list(TPUS)},
            ],
            "freeCcuQuotaInfo": self._free(),
        }

    def _rate(self, accelerators: list[str]) -> float:
        return sum(self.settings.rate(name) for name in accelerators)

    def _free(self) -> dict[str, object]:
        # an int64 travels as a string
        refill = int(time.time() + self.settings.real_s(24 * 3600))
        return {"remainingTokens": str(int(self.free_milli_units)), "nextRefillTimestampSec": refill}


def read_wish(request: Request, settings: Settings) -> Wish | Answer:
    """What is asked for, or 400 for what this account or any other cannot ask for."""
    query = request.query
    nbh, variant = query.get("nbh", ""), query.get("variant", "DEFAULT")
    accelerator = query.get("accelerator", "NONE").upper()
    shape, label = query.get("shape"), query.get("runtime_version_label")
    if len(nbh) != NBH_LENGTH:
        return _bad("nbh")
    if variant not in VARIANTS or shape not in SHAPES or (shape == "hm" and not settings.high_memory):
        return _bad("variant or shape")
    if (accelerator == "NONE") != (variant == "DEFAULT") or accelerator not in ("NONE", *settings.gpus):
        return _bad("accelerator")
    if label is not None and label not in settings.labels:
        return _bad("runtime_version_label")
    return Wish(nbh, variant, accelerator, shape, label)


def refusal(settings: Settings, faults: Faults, account: Account, living: int) -> Answer | None:
    """Why POST assign gives no runtime; None when it does."""
    if faults.assign_statuses:
        return Answer(faults.assign_statuses.pop(0))
    if faults.outcome is not None:
        return guarded_json({"outcome": faults.outcome})
    if living >= settings.max_sessions:
        return Answer(412)
    if account.exhausted:
        return guarded_json({"outcome": EXCEEDED})
    return None


def _bad(what: str) -> Answer:
    return Answer(400, json.dumps({"error": {"code": 400, "message": f"invalid {what}"}}).encode())
