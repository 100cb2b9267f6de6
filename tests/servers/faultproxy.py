"""A TCP proxy that is a bad network: delay, rate, cuts, silence, flipped bits.

By hand or for measurements, in a process of its own, until stdin ends:
`python -m tests.servers.faultproxy HOST:PORT --rtt 0.05 [--rate BYTES_PER_S]` prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

BLOCK = 256 << 10
IN_FLIGHT = 96 << 20
REACH_S = 2.5


@dataclass
class Faults:
    """What the network does; may change while it runs. Offsets count a connection's bytes from the server."""

    rtt_s: float = 0.0
    rate: float = 0.0  # bytes a second each way; 0: no limit
    cut_after: int | None = None  # then both ends see the connection closed
    silent_after: int | None = None  # then nothing passes any more, and nobody is told
    flip_at: int | None = None  # one bit of this byte
    silent: threading.Event = field(default_factory=threading.Event)


class FaultProxy:
    """`with FaultProxy(host, port, Faults(rtt_s=0.05)) as proxy:` listens on proxy.host:proxy.port."""

    def __init__(self, host: str, port: int, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.host, self.port = "127.0.0.1", 0
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._links: set[asyncio.Task[None]] = set()

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(10)

    def cut(self) -> None:
        """Close every connection now; new ones are accepted."""
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._links])

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._done = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=BLOCK)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._done.wait()
        server.close()
        for task in list(self._links):
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            await self._link(reader, writer)
        except (asyncio.CancelledError, OSError):
            pass
        finally:
            self._links.discard(task)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.faults.rtt_s)  # the client's connect() was answered by us, too early
        far_reader, far_writer = await self._reach()
        up = _Direction(self.faults, far_writer, False)
        down = _Direction(self.faults, writer, True)
        jobs = [asyncio.ensure_future(up.carry(reader)), asyncio.ensure_future(down.carry(far_reader))]
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            for end in (writer, far_writer):
                end.transport.abort() if self.faults.cut_after is not None else end.close()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The target, as soon as it can be reached again: the system alone would ask ever more rarely."""
        while True:
            try:
                return await asyncio.wait_for(asyncio.open_connection(*self._target, limit=BLOCK), REACH_S)
            except TimeoutError:
                continue


class _Direction:
    """One way of a connection: what is read leaves half a round trip later, at the link's rate."""

    def __init__(self, faults: Faults, writer: asyncio.StreamWriter, from_server: bool) -> None:
        self._faults = faults
        self._writer = writer
        self._from_server = from_server
        self._passed = 0
        self._free_at = 0.0
        self._in_flight = 0
        self._room = asyncio.Event()
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def carry(self, reader: asyncio.StreamReader) -> None:
        reading = asyncio.ensure_future(self._read(reader))
        try:
            await self._send()
        finally:
            reading.cancel()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(BLOCK):
                self._queue.put_nowait((self._due(len(data)), data))
                self._in_flight += len(data)
                while self._in_flight > IN_FLIGHT:
                    self._room.clear()
                    await self._room.wait()
        self._queue.put_nowait((self._due(0), b""))

    def _due(self, size: int) -> float:
        now = asyncio.get_running_loop().time()
        if self._faults.rate:
            self._free_at = max(now, self._free_at) + size / self._faults.rate
        return max(now, self._free_at) + self._faults.rtt_s / 2

    async def _send(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await self._queue.get()
            if (wait := due - clock()) > 0:
                await asyncio.sleep(wait)
            if not data:
                return
            self._writer.write(await self._harm(data))
            await self._writer.drain()
            self._in_flight -= len(data)
            self._room.set()

    async def _harm(self, data: bytes) -> bytes:
        start, self._passed = self._passed, self._passed + len(data)
        if self._faults.silent.is_set():
            await asyncio.Event().wait()
        if not self._from_server:
            return data
        if _within(self._faults.cut_after, start, self._passed):
            raise ConnectionResetError
        if _within(self._faults.silent_after, start, self._passed):
            self._faults.silent.set()
            await asyncio.Event().wait()
        if _within(self._faults.flip_at, start, self._passed):
            harmed = bytearray(data)
            harmed[(self._faults.flip_at or 0) - start] ^= 0x10
            return bytes(harmed)
        return data


def _within(offset: int | None, start: int, stop: int) -> bool:
    return offset is not None and start <= offset < stop


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.faultproxy", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--rtt", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=0.0)
    chosen = parser.parse_args(arguments)
    host, _, port = chosen.target.rpartition(":")
    with FaultProxy(host, int(port), Faults(rtt_s=chosen.rtt, rate=chosen.rate)) as proxy:
        print(proxy.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
