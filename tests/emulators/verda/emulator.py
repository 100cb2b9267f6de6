"""The emulated Verda as a test sees it: start it, look inside, break it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.emulators.verda import lifecycle, orders
from tests.emulators.verda.accounts import Accounts, Credential
from tests.emulators.verda.limits import Asked, Limits
from tests.emulators.verda.machines import Light, Machine
from tests.emulators.verda.objects import Instance, Volume
from tests.emulators.verda.settings import Faults, Settings
from tests.emulators.verda.waiting import wait_until
from tests.emulators.verda.wire import PREFIX, Handler, Served
from tests.emulators.verda.world import Capacity, World

TICK_WALL_S = 0.05
BAD_ENDS = ("error", "no_capacity", "installation_failed")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no news; all else is the emulator's own mistake."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@dataclass(frozen=True)
class Left:
    """What is there now; `paid` are the ids of all that costs money."""

    instances: tuple[str, ...]
    volumes: tuple[str, ...]
    trash: tuple[str, ...]
    keys: tuple[str, ...]
    scripts: tuple[str, ...]
    paid: tuple[str, ...]

    def __bool__(self) -> bool:
        return any((self.instances, self.volumes, self.trash, self.keys, self.scripts, self.paid))


class Verda:
    """`with Verda(Settings(time_scale=60)) as verda:` serves on verda.url."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings, self.faults = settings or Settings(), Faults()
        self.world = World(self.settings, self.faults, self._machine)
        self.world.on_empty = lambda: lifecycle.empty(self.world)
        self.clock = self.world.clock
        self.accounts = Accounts(self.settings.token_wall_s)
        self.credential = self.accounts.add()
        self.limits = Limits(self.clock.now) if not self.settings.time_scale else Limits()
        self._machines: list[Machine] = []
        self._stack = contextlib.ExitStack()
        self._new_box: Callable[[], Machine] | None = None
        self._servers: list[Server] = []
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self.url = f"http://127.0.0.1:{self._listen('127.0.0.1', 0)}{PREFIX}"

    def __enter__(self) -> Verda:
        self._ticker.start()
        try:
            if self.settings.machines == "real":
                self._lay_ground()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._ticker.join()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for machine in self._machines:
            machine.destroy()
        for machine in self._machines:
            machine.join()
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """What points our own client here."""
        return {
            "VERDA_BASE_URL": self.url,
            "VERDA_CLIENT_ID": self.credential.client_id,
            "VERDA_CLIENT_SECRET": self.credential.client_secret,
        }

    @property
    def asked(self) -> list[Asked]:
        """All requests, in the order of their answers."""
        return list(self.limits.asked)

    @property
    def capacity(self) -> Capacity:
        return self.world.capacity

    @property
    def instances(self) -> list[Instance]:
        """All that ever were, the newest last."""
        with self.world.now():
            return list(self.world.instances.values())

    @property
    def volumes(self) -> list[Volume]:
        with self.world.now():
            return list(self.world.volumes.values())

    @property
    def balance(self) -> float:
        with self.world.now():
            return self.world.books.balance

    def cost(self, one: Instance | Volume) -> float:
        """What it has cost so far."""
        with self.world.now():
            return self.world.books.cost(one.id)

    def left(self) -> Left:
        """What a test must find empty at its end."""
        with self.world.now():
            world = self.world
            there = [one for one in world.volumes.values() if not one.permanently]
            return Left(
                tuple(world.live),
                tuple(one.id for one in there if not one.in_trash),
                tuple(one.id for one in there if one.in_trash),
                tuple(world.keys),
                tuple(world.scripts),
                tuple(sorted(world.books.burning)),
            )

    def another_credential(self) -> Credential:
        """A further pair of credentials, such as one that a machine gets."""
        return self.accounts.add()

    def rent(self, **body: Any) -> Instance:
        """An instance that someone else rents, past the wire: a look-alike, or one that was forgotten."""
        wanted = {"instance_type": "CPU.4V.16G", "image": "ubuntu-24.04", "location_code": "FIN-03"}
        with self.world.now():
            key = {"ssh_key_ids": body.pop("ssh_key_ids", None) or [self._somebodys_key()]}
            name = orders.create(self.world, {**wanted, "hostname": "somebody", **key, **body}, "somebody")
            return self.world.instances[name]

    def evict(self, one: Instance, how: str = "kill", api_lag_s: float = 0.0) -> None:
        """Take a spot instance away; "freeze": its connections stay open, and nothing answers any more."""
        assert one.is_spot, "only spot instances are evicted"
        with self.world.now():
            lifecycle.evict(self.world, one, how, api_lag_s)
        with self.world.now():
            pass  # what is due at once has happened when this returns

    def hang(self, one: Instance) -> None:
        """The machine stops answering, for ever; the API has no idea, and bills."""
        one.machine.freeze()

    def wait(self, status: str, one: Instance | None = None, timeout_s: float = 120.0) -> Instance:
        """Until an instance, the newest unless named, has a status; AssertionError if it comes to another end."""
        chosen = one or self.instances[-1]

        def arrived() -> bool:
            with self.world.now():
                return chosen.over or chosen.status in (status, *BAD_ENDS)

        wait_until(arrived, timeout_s)
        assert chosen.status == status, f"{chosen.status}: {chosen.machine.problem}"
        return chosen

    def _machine(self) -> Machine:
        if self.settings.machines != "real":
            return Light()
        self._machines.append(self._lay_ground()())
        return self._machines[-1]

    def _lay_ground(self) -> Callable[[], Machine]:
        """What makes real machines; prepared when it is first needed."""
        if self._new_box is None:
            from tests.emulators.verda import ground

            port = self._servers[0].server_port
            listen = functools.partial(self._listen, port=0)
            self._new_box = self._stack.enter_context(ground.laid(self.world, port, listen))
        return self._new_box

    def _somebodys_key(self) -> str:
        name = "00000000-0000-4000-8000-000000000000"
        self.world.keys.setdefault(name, {"id": name, "name": "somebody", "key": "ssh-ed25519 AAAA somebody"})
        return name

    def _listen(self, address: str, port: int) -> int:
        handler = functools.partial(Handler, Served(self.world, self.accounts, self.limits))
        server = Server((address, port), handler)
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server.server_port

    def _tick(self) -> None:
        """What is due happens also when nobody asks."""
        while self.settings.time_scale and not self._over.wait(TICK_WALL_S):
            with self.world.now():
                pass
