"""What stands behind an instance's address: the protocol, and the light kind, which is nothing at all."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

from tests.emulators.verda.catalogue import Type
from tests.emulators.verda.settings import Fate


@dataclass(frozen=True)
class Plan:
    """What a machine is made of, as it stood when provisioning began."""

    hostname: str
    type: Type
    image: str
    keys: tuple[str, ...]  # public ones, for root
    script: str  # "" without one
    fate: Fate
    disks: tuple[object, ...] = ()  # what disk() of earlier machines gave, or files of volumes
    images: tuple[str, ...] = ()  # that its Docker Engine has from the start


class Machine(Protocol):
    """All of these return at once; what they begin may take its time, in this order."""

    ip: str | None
    ready: bool  # its address is known
    problem: str  # why it could not be made

    def order(self, plan: Plan) -> None: ...
    def open(self) -> None: ...  # sshd begins to listen
    def run_script(self) -> None: ...
    def freeze(self) -> None: ...  # nothing answers any more, connections stay open
    def power_off(self) -> None: ...  # what is on its disk stays
    def power_on(self) -> None: ...
    def destroy(self) -> None: ...
    def join(self) -> None: ...  # wait until all that was begun is done


class Light:
    """An address where nobody is; for thousands of rentals."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self.ip: str | None = None
        self.ready, self.problem = False, ""
        self.done: list[str] = []  # what was asked of it, for tests

    def order(self, plan: Plan) -> None:
        number = next(self._numbers)
        self.ip = f"198.18.{number // 250 % 256}.{number % 250 + 1}"
        self.ready, self.plan = True, plan
        self.done.append("order")

    def open(self) -> None:
        self.done.append("open")

    def run_script(self) -> None:
        self.done.append("run_script")

    def freeze(self) -> None:
        self.done.append("freeze")

    def power_off(self) -> None:
        self.done.append("power_off")

    def power_on(self) -> None:
        self.done.append("power_on")

    def destroy(self) -> None:
        self.done.append("destroy")

    def join(self) -> None: ...
