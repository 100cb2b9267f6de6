"""What one command works with: the global options, ledger and settings (opened on use), where to speak."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from launcher.config import Config
    from launcher.render.screen import Shows
    from launcher.run import Run
    from launcher.runner.context import Context


class NobodyReads(Exception):
    """Whoever read our output has gone: `launcher logs RUN | head`."""


class Session:
    """Holds nothing that is not needed: `--help` opens neither ledger nor settings."""

    def __init__(self, json: bool = False) -> None:
        self.json = json
        self.verbose = False
        self.yes = False
        self._config: Config | None = None
        self._context: Context | None = None
        self._screen: Shows | None = None

    @property
    def config(self) -> Config:
        if self._config is None:
            from launcher.config import Config

            self._config = Config()
        return self._config

    @property
    def context(self) -> Context:
        if self._context is None:
            from launcher.cli.ask import asker
            from launcher.ledger import Ledger
            from launcher.runner.context import Context

            self._context = Context(self.config, Ledger(self.config.home), asker(self))
        return self._context

    def run(self, text: str) -> Run:
        """The run that the user means."""
        return self.context.ledger.find(text)

    def runs(self, texts: Sequence[str]) -> list[Run]:
        return [self.run(text) for text in texts]

    def tell(self, value: Mapping[str, Any], text: Callable[[], str]) -> None:
        """The command's answer, on stdout: JSON, or text for people."""
        if self.json:
            import json

            answer = json.dumps({"schema": 1, **value}, ensure_ascii=False, default=str)
        else:
            answer = text()
        if answer:
            sys.stdout.write(answer.rstrip("\n") + "\n")
            sys.stdout.flush()

    def answer(self, value: Mapping[str, Any]) -> None:
        """An answer that is JSON for people too."""
        import json

        self.tell(
            value, lambda: json.dumps({"schema": 1, **value}, ensure_ascii=False, indent=2, default=str)
        )

    def say(self, text: str) -> None:
        """One line of chatter, on stderr."""
        from launcher.render.safe import one_line

        sys.stderr.write(one_line(text) + "\n")
        sys.stderr.flush()

    def remind(self) -> None:
        """What may still cost money; from the ledger alone."""
        from launcher.runner.look import unreleased

        for line in unreleased(self.context.ledger):
            self.say(line)

    def next(self, commands: Iterable[str]) -> None:
        """At most two commands that make sense now; only to a person at a terminal."""
        if sys.stderr.isatty() and not self.json:
            for command in list(commands)[:2]:
                self.say(f"next: {command}")

    def screen(self, raw: bool = False) -> Shows:
        """Where the events of a verb are shown."""
        from launcher.render.sink import standard

        out, err = standard(not self.config.no_color)
        if self.json:
            from launcher.render.stream import JsonStream

            self._screen = JsonStream(out, err)
        else:
            from launcher.render.screen import Manner, Screen

            moving = self.config.variable("TERM") != "dumb"
            self._screen = Screen(out, err, Manner(raw, self.verbose, moving))
        return self._screen

    def pause(self) -> None:
        """Take whatever moves off the screen: something else will be written."""
        if self._screen:
            self._screen.pause()

    def now(self) -> datetime:
        from datetime import UTC, datetime

        return datetime.now(UTC)

    def at_terminal(self) -> bool:
        """Can a person be asked?"""
        return not self.json and sys.stdin.isatty() and sys.stderr.isatty()
