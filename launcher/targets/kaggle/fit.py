"""Whether Kaggle would do for a job, and how it would be pushed: judged before anything is sent (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher import cuda
from launcher.environment import HEAVY_FILE
from launcher.errors import Refused
from launcher.notebook import payload
from launcher.target import Finding, Need, Quota
from launcher.targets.kaggle import accelerators
from launcher.targets.kaggle.push import MOST_S, Settings, planned

START_S = 20.0  # a session and its Jupyter kernel
HEAVY_S, LIGHT_S = 12.0, 1.5  # a wheel from the internet: torch with CUDA is 20 heavy ones in 2 to 4 minutes
HEAVY_HOUSE_S, LIGHT_HOUSE_S = 4.0, 0.2  # … from a dataset that lies beside the session


def settings(need: Need, options: Mapping[str, Any]) -> Settings:
    """How the target's options push this job. Raises Refused."""
    spec = need.spec
    if spec.environment.needs_docker:
        raise Refused(
            "this job needs Docker (image, dockerfile or apt), and Kaggle has none",
            "remove these keys from job.yaml, or choose another target with --on",
        )
    chosen = accelerators.choose(spec.resources, str(options.get("accelerator", "")))
    if chosen and chosen.capability and need.lock is not None:
        said = cuda.trouble(need.lock, None, [chosen.capability])
        if said:
            raise Refused(said.message, said.hint)
    made = Settings(
        accelerator=chosen.name if chosen else "",
        image=str(options.get("image", "")),
        internet=options.get("internet", "on") != "off",
        wheelhouse=options.get("environment", "build") == "dataset",
        secrets=payload.FILE if options.get("secrets") == "private-dataset" else payload.KAGGLE,
    )
    if not made.internet:
        _offline(need, made)
    return made


def afford(need: Need, settings: Settings, quotas: Sequence[Quota], time_s: float | None = None) -> list[str]:
    """A note on what is left. Refused when the session could not run to its end."""
    wanted = time_s or need.spec.limits.time_s
    hours = (min(MOST_S, wanted) + setup_s(need, settings.wheelhouse)) / 3600
    kind = "TPU" if settings.accelerator.startswith("Tpu") else "GPU"
    quota = next((one for one in quotas if one.what.upper().startswith(kind)), None)
    if not settings.accelerator or quota is None or quota.left is None:
        return []
    when = f", more on {quota.refreshes_at[:16].replace('T', ' ')} UTC" if quota.refreshes_at else ""
    left = f"{quota.left:.1f} h of {kind} quota are left{when}"
    if quota.left >= hours:
        return [left]
    shorter = (
        f"give it less with --timeout {max(1, int(quota.left * 60) - 10)}m, or " if quota.left > 0.5 else ""
    )
    raise Refused(
        f"{left}; this run may take {hours:.1f} h",
        f"{shorter}wait, choose another target with --on, or rehearse with resources.gpu: none",
    )


def setup_s(need: Need, house: bool) -> float:
    """About how long a session is busy before the job's first line."""
    plan = planned(need.spec, need.lock)
    if plan.trivial:
        return START_S
    heavy = plan.files.get(HEAVY_FILE, "").count("==")
    light = len(plan.locked or {}) - heavy
    a_heavy, a_light = (HEAVY_HOUSE_S, LIGHT_HOUSE_S) if house else (HEAVY_S, LIGHT_S)
    return START_S + 5 + heavy * a_heavy + light * a_light


def notes(need: Need, settings: Settings, house: bool) -> Iterator[str]:
    """What `plan` says of this way to run it."""
    yield from accelerators.notes(accelerators.KNOWN.get(settings.accelerator), need.spec.resources)
    if settings.wheelhouse and not house and not planned(need.spec, need.lock).trivial:
        yield "the first run uploads the locked wheels into a private dataset, which later runs use"
    if need.spec.secrets and settings.secrets == payload.FILE:
        yield (
            "secrets travel in the run's private dataset: whoever can use your account there can read them"
            " until `launcher release`"
        )
    elif need.spec.secrets:
        yield (
            f"takes {', '.join(need.spec.secrets)} from Kaggle Secrets of the same name (Add-ons > Secrets);"
            " `secrets: private-dataset` on the target sends them along instead"
        )


def finding(quota: Quota) -> Finding:
    """What `check` says of a quota."""
    left, total = quota.left or 0.0, quota.total or 0.0
    when = f", anew {quota.refreshes_at}" if quota.refreshes_at else ""
    hint = "" if left > 0 else "wait for it, or use resources.gpu: none"
    return Finding(
        f"{quota.what} quota",
        left > 0 or not total,
        f"{left:.1f} of {total:.0f} {quota.unit} left{when}",
        hint,
    )


def internet(options: Mapping[str, Any]) -> tuple[str, str]:
    """What can be said of it without a push."""
    if options.get("internet") == "off":
        return "off: the environment comes from a private dataset", ""
    return "for accounts with a verified phone number; Kaggle tells only when a session starts", ""


def _offline(need: Need, made: Settings) -> None:
    if not made.wheelhouse and not planned(need.spec, need.lock).trivial:
        raise Refused(
            "internet is off and the environment would be built from the internet",
            "set `environment: dataset` on the target too",
        )
    for key, source in need.spec.data.items():
        if source.startswith("https://"):
            raise Refused(
                f"internet is off and data {key} is a download", "download it here and name the file"
            )
