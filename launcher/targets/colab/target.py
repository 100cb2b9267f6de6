"""The target `colab`."""

from __future__ import annotations

from launcher.config import Config, TargetConfig
from launcher.errors import Refused
from launcher.target import Target


def ColabTarget(config: Config, target: TargetConfig) -> Target:
    raise Refused("Colab is not in this version")
