"""Whether a Colab account would do for a job, with which accelerator, and what should be known of it (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.cuda import trouble
from launcher.errors import Refused
from launcher.job.gpu import fits
from launcher.job.spec import JobSpec
from launcher.job.units import show_duration, show_size
from launcher.target import Need, Offer
from launcher.targets.colab.api import Account, Wanted

STANDARD_MEMORY_BYTES = 12_700_000_000  # of a runtime without high memory
SETUP_S, WHEELS_S, HEAVY_S = 15.0, 30.0, 180.0  # a runtime's start, an environment, one with torch
TERMS = (
    "Colab's terms: without paid compute units it is meant for interactive work in its own pages, and Google may"
    " limit accounts that only drive it from outside; a notebook that you open yourself is always fine"
    " (`launcher notebook JOB --for colab`)"
)


@dataclass(frozen=True)
class Model:
    """A GPU of Colab: its name there, its driver's name, and what it is."""

    name: str
    shown: str
    memory_mb: int
    capability: str
    units_per_hour: float  # about; Colab changes it


MODELS = (  # what is asked for first comes first
    Model("T4", "Tesla T4", 15360, "7.5", 1.2),
    Model("L4", "NVIDIA L4", 23034, "8.9", 2.1),
    Model("A100", "NVIDIA A100-SXM4-40GB", 40960, "8.0", 6.8),
    Model("G4", "NVIDIA RTX PRO 6000 Blackwell", 97887, "12.0", 8.0),
    Model("H100", "NVIDIA H100 80GB HBM3", 81559, "9.0", 10.0),
)
CPU = Model("", "CPU", 0, "", 0.07)


def offer(target: str, need: Need, account: Account, options: Mapping[str, Any]) -> Offer:
    """The account as an offer, with the reason if it would not do."""
    try:
        chosen = model(need.spec, account, options)
        _memory(need.spec, options)
        _quota(account)
        _torch(need, chosen)
    except Refused as e:
        return Offer(target, "Colab", fits=False, why_not=e.message + (f"; {e.hint}" if e.hint else ""))
    what = "Colab " + chosen.shown + (" with high memory" if options.get("memory") == "high" else "")
    notes = [*_quota_notes(need.spec, account, chosen), TERMS]
    return Offer(target, what, form="plain", notes=notes, setup_s=setup_s(need))


def wanted(notebook_id: str, spec: JobSpec, account: Account, options: Mapping[str, Any]) -> Wanted:
    """The runtime to ask for. Refused when the account cannot have one that would do."""
    return Wanted(
        notebook_id,
        accelerator=model(spec, account, options).name,
        high_memory=options.get("memory") == "high",
        version=str(options.get("version") or ""),
    )


def model(spec: JobSpec, account: Account, options: Mapping[str, Any]) -> Model:
    """The accelerator for a job: none for one without a GPU, else the target's, else the first that fits."""
    if spec.environment.needs_docker:
        raise Refused(
            "this job needs Docker (image, dockerfile or apt), which Colab has not",
            "remove these keys from job.yaml, or choose another target with --on",
        )
    resources = spec.resources
    if not resources.gpu:
        return CPU
    if resources.count > 1:
        raise Refused(f"the job asks for {resources.count} GPUs and a Colab runtime has one at most")
    chosen = [_named(str(options["accelerator"]))] if options.get("accelerator") else list(MODELS)
    good = [one for one in chosen if fits(resources.gpu, one.shown, one.memory_mb << 20)]
    if not good:
        said = f"accelerator {chosen[0].name}" if len(chosen) == 1 else "no GPU of Colab"
        raise Refused(f"{said} is not what resources.gpu asks for", f"Colab has {_names(MODELS)}")
    may = [one for one in good if one.name in account.accelerators or not account.accelerators]
    if not may:
        raise Refused(
            f"this account may not ask for {_names(good)} now",
            f"it may ask for {', '.join(account.accelerators)}; paid compute units open the others",
        )
    return may[0]


def setup_s(need: Need) -> float:
    """About how long a runtime is busy before the job's first line."""
    if need.lock is None or not need.lock.all:
        return SETUP_S
    return SETUP_S + (HEAVY_S if need.lock.heavy else WHEELS_S)


def spent(account: Account) -> bool:
    """Whether nothing is left, paid or free."""
    return account.paid_units <= 0 and account.free_units is not None and account.free_units <= 0


def _named(name: str) -> Model:
    found = next((one for one in MODELS if one.name == name.upper()), None)
    if found is None:
        raise Refused(f"Colab has no accelerator {name!r}", f"accelerator can be {_names(MODELS)}")
    return found


def _names(models: Any) -> str:
    return ", ".join(one.name for one in models)


def _memory(spec: JobSpec, options: Mapping[str, Any]) -> None:
    wanted_bytes = spec.resources.memory_bytes or 0
    if wanted_bytes > STANDARD_MEMORY_BYTES and options.get("memory") != "high":
        raise Refused(
            f"the job asks for {show_size(wanted_bytes)} of memory, a standard runtime has about 12.7 GB",
            "set `memory: high` for this target (needs paid compute units)",
        )


def _quota(account: Account) -> None:
    if spent(account):
        when = f"; it is refilled at {account.free_refill_at}" if account.free_refill_at else ""
        raise Refused(
            f"this account's Colab quota is spent{when}", "wait, or choose another target with --on"
        )


def _quota_notes(spec: JobSpec, account: Account, chosen: Model) -> Iterator[str]:
    """Paid units are spent first, the free ones after them; what a unit buys is Colab's to change."""
    left = account.paid_units + (account.free_units or 0.0)
    hours = left / chosen.units_per_hour
    kinds = [f"{account.paid_units:.1f} paid"] if account.paid_units > 0 else []
    kinds += [f"{account.free_units:.1f} free"] if account.free_units is not None else []
    if not kinds:
        return
    yield f"{' and '.join(kinds)} compute units are left; this runtime spends about {chosen.units_per_hour:g} an hour"
    if hours * 3600 < spec.limits.time_s:
        lasts, limit = show_duration(round(hours * 60) * 60.0), show_duration(spec.limits.time_s)
        yield f"that lasts for about {lasts}, less than the job's limit of {limit}: be ready to resume"


def _torch(need: Need, chosen: Model) -> None:
    if need.lock is not None and chosen.capability:
        said = trouble(need.lock, None, [chosen.capability])
        if said:
            raise Refused(said.message, said.hint)
