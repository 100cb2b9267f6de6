"""The emulated Colab as a test sees it: start it, break it, take its runtimes away."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tests.emulators.colab import machine as machines
from tests.emulators.colab.faults import Faults
from tests.emulators.colab.routes import Assignment, Office
from tests.emulators.colab.settings import Settings
from tests.emulators.colab.wire import HEAD_BYTES, drain, read_request, send

TICK_S = 0.1
T = TypeVar("T")


class Colab:
    """`with Colab(Settings(speed=360)) as colab:` listens on colab.url; `colab.faults` may change at any time."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.faults = Faults()
        self.url = ""
        self.token = self.settings.token
        self.asked: list[str] = []  # "POST /tun/m/assign 200", in order
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._links: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    def __enter__(self) -> Colab:
        machines.sweep()
        machines.runtime_python(self.settings.system)  # may take its time, once
        self._thread.start()
        self._ready.wait(60)
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(60)
        if self._error is not None and error is None:
            raise self._error

    @property
    def environment(self) -> dict[str, str]:
        """What points our own client here."""
        return {"LAUNCHER_COLAB_URL": self.url, "LAUNCHER_COLAB_TOKEN": self.token}

    @property
    def endpoints(self) -> list[str]:
        """The runtimes that live, in the order in which they were given."""
        return self._call(lambda: list(self._office.living))

    @property
    def ended(self) -> dict[str, str]:
        """The runtimes that are no more, and why: unassigned, reclaimed, session, idle, quota."""
        return self._call(lambda: dict(self._office.ended))

    @property
    def balance(self) -> float:
        return self._call(lambda: self._office.account.balance)

    @property
    def free_milli_units(self) -> float:
        return self._call(lambda: self._office.account.free_milli_units)

    def reclaim(self, endpoint: str | None = None) -> None:
        """Take a runtime away, the newest unless one is named, as Colab does at any moment."""
        self._call(lambda: self._office.end(self._one(endpoint).endpoint, "reclaimed"))

    def kill_kernels(self, endpoint: str | None = None) -> int:
        """SIGKILL for the kernels of a runtime, as when its memory runs out."""
        return self._call(lambda: machines.kill_kernels(self._one(endpoint).machine))

    def expire_tokens(self) -> None:
        """No proxy token given so far is good any more."""
        self._call(lambda: [proxy.expire_tokens() for proxy in self._office.proxies])

    def disk(self, endpoint: str | None = None) -> Path:
        """Where a runtime's own folders lie: content/, root/, tmp/."""
        return self._call(lambda: self._one(endpoint).machine.disk)

    def process_id(self, endpoint: str | None = None) -> int:
        """The first process of a runtime, above all others."""
        return self._call(lambda: self._one(endpoint).machine.process.pid)

    def proxied(self, endpoint: str | None = None) -> list[str]:
        """What a runtime's proxy was asked, in order: "GET /api/kernels passed"."""
        return self._call(lambda: list(self._one(endpoint).proxy.asked))

    def notebook_of(self, endpoint: str) -> str:
        """The notebook that a runtime was given to."""
        return self._call(lambda: self._one(endpoint).wish.nbh)

    def change(self, **settings: Any) -> None:
        """Other limits from now on: `change(idle_s=1.0)`."""
        self.settings = dataclasses.replace(self.settings, **settings)
        self._call(lambda: self._office.use(self.settings))

    def _one(self, endpoint: str | None) -> Assignment:
        return self._office.living[endpoint or list(self._office.living)[-1]]

    def _call(self, function: Callable[[], T]) -> T:
        """Run it in the emulator's own thread, as long as there is one."""
        if not self._thread.is_alive():
            return function()

        async def called() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(60)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()
            self._loop.close()

    async def _main(self) -> None:
        self._done = asyncio.Event()
        self._office = Office(self.settings, self.faults)
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=HEAD_BYTES)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        limits = asyncio.ensure_future(self._keep_limits())
        try:
            await asyncio.wait(
                [limits, asyncio.ensure_future(self._done.wait())], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            server.close()
            await self._end_all(limits)

    async def _end_all(self, limits: asyncio.Future[None]) -> None:
        links = [limits, *self._links]
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        for endpoint in list(self._office.living):
            self._office.end(endpoint, "the emulator ended")
        for proxy in self._office.proxies:
            await proxy.close()
        if limits.done() and not limits.cancelled() and limits.exception():
            self._error = limits.exception()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            request = await read_request(reader)
            if request is not None:
                await drain(request, reader)
                answer = await self._office.answer(request)
                self.asked.append(f"{request.method} {request.path} {answer.status if answer else 'lost'}")
                if answer is not None:
                    await send(writer, answer)
        except (asyncio.CancelledError, OSError):
            writer.transport.abort()
        finally:
            writer.close()
            self._links.discard(task)

    async def _keep_limits(self) -> None:
        """Time passes: units are spent; sessions end, by their length, idleness or an empty account."""
        office, last = self._office, time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            hours = (now - last) * self.settings.speed / 3600
            last = now
            office.account.charge(hours * sum(self.settings.rate(name) for name in office.accelerators))
            for assignment in list(office.living.values()):
                if why := await self._over(assignment, now):
                    office.end(assignment.endpoint, why)

    async def _over(self, assignment: Assignment, now: float) -> str | None:
        if now - assignment.started > self.settings.real_s(self.settings.session_s):
            return "session"
        if self._office.account.exhausted:
            return "quota"
        idle_s = self.settings.real_s(self.settings.idle_s)
        if now - assignment.touched > idle_s / 3 and await machines.busy(assignment.machine):
            assignment.touched = now
        return "idle" if now - assignment.touched > idle_s else None
