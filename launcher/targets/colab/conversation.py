"""One cell and what comes back from it, over as many connections as it takes."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from launcher.errors import RemoteError, TargetError, Unreachable
from launcher.targets.colab import messages
from launcher.targets.colab.messages import Asked, Cell, Ending, Output, Reading
from launcher.targets.colab.runtime import PEER, Ask, KernelGone, Reclaimed, RuntimeLine, good
from launcher.targets.colab.wire import Cut, json_object

if TYPE_CHECKING:
    from launcher.targets.colab.channel import Channel

TICK_S = 1.0
LOOK_S = 15.0  # of silence; Jupyter does not tell when somebody else ends a kernel
LAST_OUTPUT_S = 5.0  # after the reply; then the end of the output was lost
RECONNECT_S = 120.0
PAUSES_S = (0.1, 0.3, 1.0)  # the last one again and again


class Link:
    """The connection to one kernel. Its `session` stays, so that Jupyter knows whom to hand what was missed."""

    def __init__(self, line: RuntimeLine, kernel_id: str) -> None:
        self.line = line
        self.kernel_id = kernel_id
        self.session = uuid.uuid4().hex
        self._channel: Channel | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def connect(self) -> Channel:
        """The channel; KernelGone when there is no such kernel, Cut when it cannot be made now."""
        if self._closed:
            raise Unreachable("the connection to the kernel was closed")
        if self._channel is None:
            from launcher.targets.colab.channel import Channel  # its package is there for who uses Colab

            self._channel = Channel(self.line, self.kernel_id, self.session)
        return self._channel

    def disconnect(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def control(self, what: str) -> None:
        """`interrupt` or `restart`."""
        path = f"/api/kernels/{quote(self.kernel_id, safe='')}/{what}"
        answer = self.line.ask(Ask("POST", path, b"{}", read_s=120.0))
        if answer.status == 404:
            raise RemoteError(f"{PEER} has no such kernel any more")
        good(answer, f"asking a kernel to {what}")

    def lives(self) -> bool:
        """Whether there is such a kernel, by Jupyter's word; no answer says nothing."""
        try:
            answer = self.line.once(Ask("GET", f"/api/kernels/{quote(self.kernel_id, safe='')}"))
            return answer.status != 404 and json_object(answer, PEER).get("execution_state") != "dead"
        except Reclaimed:
            raise
        except TargetError:
            return True

    def close(self) -> None:
        self._closed = True
        self.disconnect()


class Conversation:
    """`cell` None: only watch what runs."""

    def __init__(self, link: Link, cell: Cell | None) -> None:
        self._link = link
        self._cell = cell
        self._request = messages.execute_request(cell, link.session) if cell else None
        self._reading = Reading(messages.id_of(self._request) if self._request else "")
        self._answer: dict[str, Any] | None = None  # the last input, until the cell is heard again
        self._begun = False  # the request may have arrived
        self._over_at = 0.0
        self._heard_at = time.monotonic()

    def go(self) -> Generator[Output | None, None, Ending]:
        """Output as it comes, None in silence; at the end the ending."""
        yield from self._say(self._begin)
        while self._reading.ending is None:
            try:
                message = self._link.connect().receive(TICK_S)
            except (Cut, KernelGone):
                yield from self._mend()
                continue
            if message is None:
                yield None
                self._look()
            else:
                self._heard_at = time.monotonic()
                yield from self._hear(message)
            self._stop_waiting()
        if self._reading.ending.status == "died":
            self._link.disconnect()  # what comes next comes from another process
        return self._reading.ending

    def _hear(self, message: dict[str, Any]) -> Generator[Output | None, None, None]:
        said = self._reading.take(message)
        if self._reading.mine(message):
            self._answer = None  # the last one has arrived
        if isinstance(said, Asked):
            self._answer = messages.input_reply(said, self._ask(said.prompt), self._link.session)
            yield from self._say(self._reply)
        elif said is not None:
            yield said

    def _begin(self) -> None:
        channel = self._link.connect()
        self._begun = True
        if self._request is not None:
            channel.send(self._request)
        else:
            self._fence()

    def _fence(self) -> None:
        request = messages.info_request(self._link.session)
        self._reading.fence = messages.id_of(request)
        self._link.connect().send(request)

    def _reply(self) -> None:
        if self._answer is not None:
            self._link.connect().send(self._answer)

    def _say(self, saying: Callable[[], None]) -> Generator[Output | None, None, None]:
        try:
            saying()
        except (Cut, KernelGone):
            yield from self._mend()

    def _mend(self) -> Generator[Output | None, None, None]:
        """A new connection. What got lost on the old one is found out by asking for something behind it."""
        deadline = time.monotonic() + RECONNECT_S
        for pause_s in itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1])):
            self._link.disconnect()
            try:
                if not self._begun:
                    return self._begin()
                self._fence()
                return self._reply()
            except KernelGone:
                self._reading.ending = Ending("died")
                return None
            except Unreachable:
                if self._link.closed or time.monotonic() > deadline:
                    raise
                self._look_after_runtime()
            yield None
            time.sleep(pause_s)
        return None

    def _look(self) -> None:
        if time.monotonic() - self._heard_at > LOOK_S:
            self._heard_at = time.monotonic()
            if not self._link.lives():
                self._reading.ending = Ending("died")

    def _look_after_runtime(self) -> None:
        """There is no way to the kernel now; Reclaimed when there will be none."""
        try:
            self._link.line.must_live()
        except Reclaimed:
            raise
        except TargetError:
            return

    def _ask(self, prompt: str) -> str:
        assert self._cell is not None
        assert self._cell.on_input is not None
        try:
            return self._cell.on_input(prompt)
        except BaseException:
            self._link.control("interrupt")  # nobody will answer
            raise

    def _stop_waiting(self) -> None:
        now = time.monotonic()
        if self._reading.over and not self._over_at:
            self._over_at = now
        if self._over_at and now - self._over_at > LAST_OUTPUT_S:
            self._reading.give_up()
