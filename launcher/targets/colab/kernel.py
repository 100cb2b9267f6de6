"""A kernel of a runtime: cells run in it, their output comes as it is printed, and connections may break."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Generator
from urllib.parse import quote

from launcher.errors import RemoteError
from launcher.targets.colab.conversation import Conversation, Link
from launcher.targets.colab.messages import Cell, Ending, OnInput, Output
from launcher.targets.colab.runtime import PEER, Ask, KernelGone, RuntimeLine, good
from launcher.targets.colab.wire import Cut, json_object

__all__ = ["Cell", "Ending", "Kernel", "OnInput", "Output"]


class Kernel:
    """`with Kernel(line, name) as kernel:` the runtime's kernel of this name, made when there is none.

    Leaving it closes the connection alone; the kernel and its cell go on. One cell at a time, one thread at a time
    (`interrupt` and `close` may come from any). Jupyter thins out heavy output (1 MB/s): take results from files.
    """

    def __init__(self, line: RuntimeLine, name: str) -> None:
        self._line = line
        self._name = name
        self._link = Link(line, self._found())

    @property
    def id(self) -> str:
        """Another one when it was gone and was made again."""
        return self._link.kernel_id

    def run(self, cell: Cell) -> Generator[Output | None, None, Ending]:
        """Runs a cell; yields its output as it comes, None at least every second; returns its ending.

        A broken connection is made again and the output goes on; Jupyter keeps what was printed in between, but for
        what it had just sent. Unreachable when no connection succeeds for two minutes, Reclaimed when the runtime is
        gone. Closing the generator leaves the cell running.
        """
        self._connect()
        return (yield from Conversation(self._link, cell).go())

    def execute(
        self, code: str, on_output: Callable[[Output], None] | None = None, on_input: OnInput | None = None
    ) -> Ending:
        """The same in one call, silent."""
        cell = self.run(Cell(code, on_input=on_input))
        while True:
            try:
                output = next(cell)
            except StopIteration as end:
                ending: Ending = end.value
                return ending
            if output is not None and on_output is not None:
                on_output(output)

    def busy(self, within_s: float = 2.0) -> bool:
        """Whether a cell runs in it, whoever started it: it does not answer within that time."""
        deadline = time.monotonic() + within_s
        watching = self.watch()
        for _ in watching:
            if time.monotonic() > deadline:
                watching.close()
                return True
        return False

    def watch(self) -> Generator[Output | None, None, Ending]:
        """The output of the cell that runs now, whoever started it, from now on, until the kernel is idle or dies."""
        self._connect()
        return (yield from Conversation(self._link, None).go())

    def interrupt(self) -> None:
        """KeyboardInterrupt in the running cell."""
        self._link.control("interrupt")

    def restart(self) -> None:
        """A fresh process under the same name."""
        self._link.disconnect()
        self._link.control("restart")

    def shut_down(self) -> None:
        """End the kernel itself; fine when it is gone."""
        self.close()
        answer = self._line.ask(Ask("DELETE", f"/api/kernels/{quote(self.id, safe='')}"))
        if answer.status != 404:
            good(answer, "ending a kernel")

    def close(self) -> None:
        """Close the connection; a `run` or `watch` in another thread ends with Unreachable."""
        self._link.close()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # inside

    def _found(self) -> str:
        """Jupyter keeps one kernel a session, and one session a path: asking twice is asking once."""
        wanted = {"path": self._name, "name": self._name, "type": "console", "kernel": {"name": "python3"}}
        answer = self._line.ask(Ask("POST", "/api/sessions", json.dumps(wanted).encode(), read_s=120.0))
        kernel = json_object(good(answer, "starting a kernel"), PEER).get("kernel")
        if not isinstance(kernel, dict) or not isinstance(kernel.get("id"), str) or not kernel["id"]:
            raise RemoteError(f"{PEER} gave no kernel")
        return str(kernel["id"])

    def _connect(self) -> None:
        """For a new cell: a kernel that is gone is made again."""
        with contextlib.suppress(Cut):  # tried again by who needs it
            try:
                self._link.connect()
            except KernelGone:
                self._link.kernel_id = self._found()
                self._link.connect()
