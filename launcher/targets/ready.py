"""An environment that stands on a machine, and what the agent must be told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ready:
    """`python` runs the agent; `order` holds the keys of order.json that depend on the environment."""

    python: str
    order: Mapping[str, Any]
    image: str | None = None
    handle: Mapping[str, Any] = field(default_factory=dict)
