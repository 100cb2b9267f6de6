"""A kernel of a runtime: cells run in it, their output comes as it is printed, and connections may break."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from launcher.targets.colab.runtime import RuntimeLine

OnInput = Callable[[str], str]  # the prompt of input() or getpass -> the answer


@dataclass(frozen=True)
class Output:
    """What a cell printed: `stream` is stdout or stderr."""

    stream: str
    text: str


@dataclass(frozen=True)
class Ending:
    """How a cell ended.

    ok; error (`name`, `value`: the exception; `traceback` as text without colours); died: the kernel died or was
    restarted under it; lost: it has ended while the connection was broken, and its answer was lost.
    """

    status: str
    name: str = ""
    value: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Cell:
    """Code to run. A silent one counts in no history; `on_input` answers input(), over the kernel's own channel."""

    code: str
    silent: bool = True
    on_input: OnInput | None = None


class Kernel:
    """`with Kernel(line, name) as kernel:` the runtime's kernel of this name, made when there is none.

    Leaving it closes the connection alone; the kernel and its cell go on. One cell at a time, one thread at a time
    (`interrupt` and `close` may come from any). Jupyter thins out heavy output (1 MB/s): take results from files.
    """

    id: str

    def __init__(self, line: RuntimeLine, name: str) -> None:
        raise NotImplementedError

    def run(self, cell: Cell) -> Generator[Output | None, None, Ending]:
        """Runs a cell; yields its output as it comes, None at least every second; returns its ending.

        A broken connection is made again and the output goes on. Unreachable when that does not succeed for two
        minutes, Reclaimed when the runtime is gone.
        """
        raise NotImplementedError

    def execute(
        self, code: str, on_output: Callable[[Output], None] | None = None, on_input: OnInput | None = None
    ) -> Ending:
        """The same in one call, silent."""
        raise NotImplementedError

    def busy(self, within_s: float = 2.0) -> bool:
        """Whether a cell runs in it, whoever started it: it does not answer within that time."""
        raise NotImplementedError

    def watch(self) -> Iterator[Output | None]:
        """The output of the cell that runs now, whoever started it, from now on, until the kernel is idle or dies."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """KeyboardInterrupt in the running cell."""
        raise NotImplementedError

    def restart(self) -> None:
        """A fresh process under the same name."""
        raise NotImplementedError

    def shut_down(self) -> None:
        """End the kernel itself; fine when it is gone."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection; a `run` or `watch` in another thread ends with Unreachable."""
        raise NotImplementedError

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
