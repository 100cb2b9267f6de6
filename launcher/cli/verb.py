"""The one kind of command: `--json` and `-v` may stand behind its name; words after `--` are the job's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from launcher.cli.session import Session
from launcher.cli.table import summary


class Verb(click.Command):
    """`words`: takes what stands after `--`. `runs`: touches runs, so says first what may cost money."""

    def __init__(self, *args: Any, words: bool = False, runs: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._words, self._runs = words, runs
        self.params += [_global("--json", "json"), _global("-v", "verbose")]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words: list[str] = []
        if self._words and "--" in args:
            cut = args.index("--")
            args, words = args[:cut], args[cut + 1 :]
        rest = super().parse_args(ctx, args)
        if self._words:
            ctx.params["words"] = (*ctx.params.get("words", ()), *words)
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        pieces = super().collect_usage_pieces(ctx)
        return [*pieces, "[-- ARGS...]"] if self._words and "words" not in _names(self) else pieces

    def invoke(self, ctx: click.Context) -> Any:
        if self._runs:
            ctx.ensure_object(Session).remind()
        return super().invoke(ctx)


def verb(name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Makes a function the command `name` of the table."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        return click.command(name, cls=Verb, short_help=summary(name) or None, **settings)(function)

    return wrap


def with_session(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the Session as its first argument."""
    return click.pass_obj(function)


def _names(command: click.Command) -> list[str | None]:
    return [param.name for param in command.params]


def _global(flag: str, what: str) -> click.Option:
    def note(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            setattr(ctx.ensure_object(Session), what, True)

    texts = {"json": "Only JSON on stdout.", "verbose": "Say more on stderr."}
    names = [flag] if what == "json" else [flag, "--verbose"]
    return click.Option(names, is_flag=True, expose_value=False, callback=note, help=texts[what])
