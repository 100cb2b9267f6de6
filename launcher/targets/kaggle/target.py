"""The target `kaggle`."""

from __future__ import annotations

from launcher.config import Config, TargetConfig
from launcher.errors import Refused
from launcher.target import Target


def KaggleTarget(config: Config, target: TargetConfig) -> Target:
    raise Refused("Kaggle is not in this version")
