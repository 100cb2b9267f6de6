"""What the emulated Colab offers: one account, its rights and its limits. Durations are Colab's own seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.emulators.colab.environments import System

GPU_MODELS = {  # as nvidia-smi names them, memory in MiB
    "T4": ("Tesla T4", 15360, "7.5"),
    "L4": ("NVIDIA L4", 23034, "8.9"),
    "A100": ("NVIDIA A100-SXM4-40GB", 40960, "8.0"),
    "H100": ("NVIDIA H100 80GB HBM3", 81559, "9.0"),
    "G4": ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "12.0"),
}
TPUS = ("V5E1", "V6E1")
SHAPES = {None: 0, "hm": 1}
VARIANTS = {"DEFAULT": 0, "GPU": 1, "TPU": 2}

# what assign answers beside a runtime
DENIED, EXCEEDED, SUCCESS, DENYLISTED = 1, 2, 4, 5


@dataclass(frozen=True)
class Settings:
    """`speed=360` makes 12 hours two minutes; everything that Colab counts in time is divided by it."""

    token: str = "token-of-the-emulator"
    speed: float = 1.0
    session_s: float = 12 * 3600
    idle_s: float = 90 * 60  # without a running cell and without a keep-alive
    proxy_token_s: float = 3600
    max_sessions: int = 2
    gpus: tuple[str, ...] = ("T4",)
    high_memory: bool = False
    labels: tuple[str, ...] = ("2026.01", "2026.04", "2026.07")
    system: System = field(default_factory=System)
    balance: float = 0.0  # paid compute units
    free_milli_units: float = 60_000
    units_per_hour: dict[str, float] = field(default_factory=lambda: {"NONE": 0.07, "T4": 1.2, "L4": 2.1})
    units_per_hour_of_others: float = 8.0

    def real_s(self, colab_s: float) -> float:
        """A duration of Colab's in seconds of this machine."""
        return colab_s / self.speed

    def rate(self, accelerator: str) -> float:
        return self.units_per_hour.get(accelerator, self.units_per_hour_of_others)
