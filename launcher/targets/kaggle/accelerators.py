"""Kaggle's accelerators: which of them a job gets, and which can no longer be had (pure).

Kaggle refuses no name: a retired or unknown one is silently replaced. So names are judged here. What an
account may use beyond the two T4 depends on competitions and on Kaggle's staff; no call tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from launcher.errors import Refused
from launcher.job.gpu import Gpu, fits
from launcher.job.spec import Resources
from launcher.job.units import show_size


@dataclass(frozen=True)
class Accelerator:
    """`gpu` is what the driver calls it ("" for a TPU); `gated`: not for every account."""

    name: str
    gpu: str = ""
    count: int = 1
    memory_mb: int = 0
    capability: str = ""
    nominal_gb: int = 0  # as it is sold
    gated: bool = True

    @property
    def what(self) -> str:
        """In words, for a plan."""
        if not self.gpu:
            return f"TPU {self.name}"
        return f"{self.count} x {self.gpu}, {self.nominal_gb} GB each"


T4 = Accelerator("NvidiaTeslaT4", "Tesla T4", 2, 15360, "7.5", 16, gated=False)  # one alone does not exist
KNOWN = {
    one.name: one
    for one in (
        T4,
        Accelerator("NvidiaL4", "NVIDIA L4", 4, 23034, "8.9", 24),
        Accelerator("NvidiaL4X1", "NVIDIA L4", 1, 23034, "8.9", 24),
        Accelerator("NvidiaTeslaA100", "NVIDIA A100-SXM4-40GB", 1, 40960, "8.0", 40),
        Accelerator("NvidiaH100", "NVIDIA H100 80GB HBM3", 1, 81559, "9.0", 80),
        Accelerator("NvidiaRtxPro6000", "NVIDIA RTX PRO 6000", 1, 97887, "12.0", 96),
        Accelerator("TpuV5E8", gated=False),
        Accelerator("TpuV6E8"),
    )
}
RETIRED = {
    "NvidiaTeslaP100": "NvidiaTeslaT4",
    "TpuV38": "TpuV5E8",
    "Tpu1VmV38": "TpuV5E8",
    "TpuV232": "TpuV5E8",
    "TpuV2256": "TpuV5E8",
}


def choose(wanted: Resources, asked: str = "") -> Accelerator | None:
    """What to push with; None is a session without accelerator, which costs no quota. Raises Refused."""
    by_name = named(asked) if asked else None
    if wanted.gpu is None:
        return by_name if by_name and not by_name.gpu else None
    if by_name and not by_name.gpu:
        raise Refused(
            f"{by_name.name} is no GPU, and the job asks for one",
            "remove accelerator from the target, or set resources.gpu to none",
        )
    chosen = by_name or T4
    if not _does(chosen, wanted):
        raise Refused(
            f"the job asks for {_words(wanted)} and Kaggle's {chosen.name} is {chosen.what}",
            _instead(wanted, chosen),
        )
    return chosen


def named(name: str) -> Accelerator:
    """Raises Refused for a retired or unknown name."""
    if name in RETIRED:
        raise Refused(
            f"Kaggle has retired the accelerator {name}", f"set the target's accelerator to {RETIRED[name]}"
        )
    if name not in KNOWN:
        import difflib

        near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.4)
        meant = f"did you mean {near[0]}? " if near else ""
        raise Refused(f"Kaggle has no accelerator {name!r}", f"{meant}known: {', '.join(KNOWN)}")
    return KNOWN[name]


def notes(chosen: Accelerator | None, wanted: Resources) -> Iterator[str]:
    """What a plan should say about it."""
    if chosen is None:
        yield "no accelerator: costs no GPU quota"
        return
    if chosen.gpu and chosen.count > wanted.count:
        yield f"{chosen.name} is always {chosen.count} GPUs; the job asks for {wanted.count}"
    if chosen.gated:
        yield f"{chosen.name} is not for every account: Kaggle gives another one without a word if it is not"


def _does(one: Accelerator, wanted: Resources) -> bool:
    assert wanted.gpu is not None
    return bool(one.gpu) and one.count >= wanted.count and fits(wanted.gpu, one.gpu, one.memory_mb << 20)


def _instead(wanted: Resources, chosen: Accelerator) -> str:
    others = [one.name for one in KNOWN.values() if one is not chosen and _does(one, wanted)]
    if not others:
        return "choose another target with --on, or ask for less"
    if others[0] == T4.name:
        return f"set the target's accelerator to {T4.name}"
    return f"if your account may use it, set the target's accelerator to {' or '.join(others)}"


def _words(wanted: Resources) -> str:
    gpu: Gpu | None = wanted.gpu
    assert gpu is not None
    kind = " or ".join(gpu.models) if gpu.models else "GPU"
    memory = f" with {show_size(gpu.memory_bytes)}" if gpu.memory_bytes else ""
    return f"{wanted.count} x {kind}{memory}"
