"""The entry point: a lazy group of commands, and what every way of ending looks like from outside."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from launcher.cli.session import NobodyReads, Session
from launcher.cli.table import GROUPS, NOT_YET, OTHERS, command_place


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    ours = words[: words.index("--")] if "--" in words else words
    session = Session(json="--json" in ours)
    try:
        code = cli.main(words, "launcher", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except BaseException as error:
        from launcher.cli.ending import ended

        return ended(session, error)
    return code if isinstance(code, int) else 0


class Commands(click.Group):
    """Imports a command's module when the command is used, never for help."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # before Click makes an exit code 1 of it
            raise NobodyReads from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for commands in GROUPS.values() for name in commands]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        place = command_place(name)
        if place is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"launcher.cli.{place}"), f"{name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if command_place(args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(unknown(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group, commands in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()], col_max=12)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        rows = [(name, text) for commands in GROUPS.values() for name, (_, text) in commands.items()]
        found = [CompletionItem(name, help=text) for name, text in rows if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def unknown(name: str) -> str:
    """What to say to a command that there is not."""
    if name in OTHERS:
        return f"no command `{name}`; here it is `launcher {OTHERS[name]}`"
    if name in NOT_YET:
        return f"`launcher {name}` is not in this version"
    from difflib import get_close_matches

    near = get_close_matches(name, [n for commands in GROUPS.values() for n in commands], 1)
    return f"no command `{name}`" + (f"; did you mean `launcher {near[0]}`?" if near else "")


def _set_json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Session).json |= value


def _set_verbose(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Session).verbose |= value


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from launcher import __version__

        click.echo(f"launcher {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", is_flag=True, expose_value=False, callback=_set_json, help="Only JSON on stdout.")
@click.option(
    "-v", "--verbose", is_flag=True, expose_value=False, callback=_set_verbose, help="Say more on stderr."
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def cli() -> None:
    """One command runs a fine-tuning job, identically, on any GPU you can get."""
