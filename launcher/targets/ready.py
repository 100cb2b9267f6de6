"""What stands ready on a machine for a job, environment and data, and what the agent must be told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.agent import datastore
from launcher.engine.run import DATA_PATH


@dataclass(frozen=True)
class Brought:
    """Where a job's data lies on the machine, and what is told of it to the agent and at home."""

    root: str = ""
    told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # key -> digest, files, size_bytes

    @property
    def digests(self) -> dict[str, str]:
        return {key: one["digest"] for key, one in self.told.items()}

    @property
    def mounts(self) -> dict[str, str]:
        """For a container: key -> the source, absolute."""
        return {key: datastore.tree(self.root, digest) for key, digest in self.digests.items()}

    def order(self, docker: bool) -> dict[str, Any]:
        """The keys of order.json."""
        return {"data": dict(self.told), "data_dir": DATA_PATH if docker and self.told else None}


@dataclass(frozen=True)
class Ready:
    """`python` runs the agent; `order` holds the keys of order.json that depend on the environment."""

    python: str
    order: Mapping[str, Any]
    image: str | None = None
    handle: Mapping[str, Any] = field(default_factory=dict)
    data: Brought = Brought()
