"""The cloud as a whole: everything in it, under one lock, moved on to the present before each look."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.emulators.verda.books import Books
from tests.emulators.verda.catalogue import EUR_PER_USD, LOCATIONS, TYPES
from tests.emulators.verda.clock import Agenda, Clock
from tests.emulators.verda.journal import Event, Journal
from tests.emulators.verda.machines import Light, Machine
from tests.emulators.verda.objects import Instance, Tag, Volume
from tests.emulators.verda.settings import Faults, Settings


@dataclass
class Capacity:
    """How many machines are free; without a word on it, enough."""

    left: dict[tuple[str, str, bool], int] = field(default_factory=dict)

    def set(self, name: str, count: int, location: str | None = None, spot: bool | None = None) -> None:
        """For a type, everywhere and of both kinds unless said otherwise."""
        for place in [location] if location else list(LOCATIONS):
            for is_spot in [spot] if spot is not None else [False, True]:
                self.left[(name, place, is_spot)] = count

    def free(self, name: str, location: str, is_spot: bool) -> bool:
        return location in TYPES[name].homes and self.left.get((name, location, is_spot), 1) > 0

    def change(self, one: Instance, by: int) -> None:
        key = (one.type.name, one.location, one.is_spot)
        if key in self.left:
            self.left[key] += by


class World:
    """All state; `time` is the moment up to which everything has happened."""

    def __init__(self, settings: Settings, faults: Faults, machine: Callable[[], Machine] = Light) -> None:
        self.settings, self.faults, self.machine = settings, faults, machine
        self.clock = Clock(settings.time_scale, settings.start)
        self.time = self.clock.now()
        self.books = Books(settings.balance, self.time)
        self.journal = Journal(str(uuid.uuid4()))
        self.capacity = Capacity()
        self.instances: dict[str, Instance] = {}
        self.live: dict[str, Instance] = {}  # those that are not over
        self.ended: list[Instance] = []
        self.gpus = 0  # of the live ones
        self.volumes: dict[str, Volume] = {}
        self.keys: dict[str, dict[str, object]] = {}
        self.scripts: dict[str, dict[str, object]] = {}
        self.tags: dict[tuple[str, str], Tag] = {}
        self.new_disk: Callable[[Volume], object] = lambda volume: None
        self.on_empty: Callable[[], None] = lambda: None  # the balance is used up
        self._agenda = Agenda()
        self._lock = threading.RLock()

    @property
    def factor(self) -> float:
        """From USD to the account's currency."""
        return EUR_PER_USD if self.settings.currency == "eur" else 1.0

    @contextlib.contextmanager
    def now(self) -> Iterator[None]:
        """Hold the world still, at the present."""
        with self._lock:
            self._settle(self.clock.now())
            yield

    def after(self, seconds: float, due: Callable[[], None]) -> None:
        """Plan something."""
        self._agenda.add(self.time + seconds, due)

    def note(self, one: Instance | Volume, action: str, actor: str | None = None, **more: str) -> None:
        """A line in the journal."""
        kind = "compute" if isinstance(one, Instance) else "volume"
        self.journal.add(Event(one.id, kind, action, self.time, one.location, actor, **more))

    def _settle(self, now: float) -> None:
        while (moment := min(self._agenda.next_moment, self.books.empty_at)) <= now:
            self.time = max(self.time, moment)
            self.books.settle(self.time)
            if self.books.empty_at <= self.time:
                self.on_empty()
            else:
                self._agenda.take()()
        self.time = max(self.time, now)
        self.books.settle(self.time)
