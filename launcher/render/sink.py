"""One stream to write to, and what must be known of it: a terminal? with colours? is a line unfinished?"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import BinaryIO, TextIO

from launcher.render.safe import RESET, settled, tamed


@dataclass
class Sink:
    """The stream's own isatty decides: no variable of a CI service puts control characters into a file."""

    file: BinaryIO
    terminal: bool = False
    colour: bool = False
    place: object = None  # equal for two streams that end up in one terminal, pipe or file
    mid_line: bool = field(default=False, init=False)
    _coloured: bool = field(default=False, init=False)

    def text(self, text: str) -> None:
        """The job's text, made safe."""
        text = self._tamed(text)
        if text:
            self.mid_line = text[-1] != "\n"
            self.bytes(text.encode("utf-8", "replace"))

    def line(self, text: str) -> None:
        """A line of ours, on a line of its own."""
        self.fresh()
        self.bytes(text.encode("utf-8", "replace") + b"\n")

    def fresh(self) -> None:
        """End an unfinished line, and the colours that it left on."""
        if self._coloured:
            self.bytes(RESET.encode())
        if self.mid_line:
            self.bytes(b"\n")
        self._coloured = self.mid_line = False

    def reset(self) -> None:
        """Switch off colours that the job left on."""
        if self._coloured:
            self.bytes(RESET.encode())
        self._coloured = False

    def bytes(self, data: bytes) -> None:
        """As they are."""
        self.file.write(data)
        self.file.flush()

    def _tamed(self, text: str) -> str:
        text = tamed(text, colour=self.colour, carriage_return=True)
        if not self.terminal:
            return settled(text, self.mid_line)
        if "\x1b[" in text:
            self._coloured = not text.rstrip("\r\n").endswith(("\x1b[m", RESET))
        return text


def sink_of(stream: TextIO, colour: bool) -> Sink:
    """The sink over sys.stdout or sys.stderr; `colour`: the user's word (NO_COLOR, TERM=dumb) allows it."""
    stream.flush()
    terminal = stream.isatty()
    return Sink(stream.buffer, terminal, colour and terminal, _place(stream))


def _place(stream: TextIO) -> object:
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # not a file at all: within a test, say
        return None
    return found.st_dev, found.st_ino


def standard(colour: bool) -> tuple[Sink, Sink]:
    """The sinks of stdout and stderr."""
    return sink_of(sys.stdout, colour), sink_of(sys.stderr, colour)
