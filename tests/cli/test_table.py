"""Every command that help names exists, says what it does, and other tools' verbs are answered with ours."""

from __future__ import annotations

import importlib

import click
import pytest
from click.testing import CliRunner

from launcher.cli.main import cli, unknown
from launcher.cli.session import Session
from launcher.cli.table import GROUPS, NOT_YET, OTHERS

NAMES = [name for commands in GROUPS.values() for name in commands]
DESIGNED = (
    "demo init check plan run ps status events wait logs attach pull cancel release resume rerun watch diff"
    " exec ssh forward tensorboard offers quota cost reap notebook lock store target secret schema completion version"
)


def test_the_groups_of_help_are_the_designed_ones() -> None:
    assert list(GROUPS) == ["Start", "Watch", "Stop and go on", "Money", "More"]
    assert list(GROUPS["Start"]) == ["demo", "init", "check", "plan", "run"]
    assert list(GROUPS["Watch"]) == ["ps", "status", "logs", "attach", "pull"]
    assert list(GROUPS["Stop and go on"]) == ["cancel", "release", "resume", "rerun"]


def test_every_designed_command_is_there_or_known_to_be_missing() -> None:
    assert sorted([*NAMES, *NOT_YET]) == sorted(DESIGNED.split())


@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_where_the_table_says_and_has_help(name: str) -> None:
    done = CliRunner().invoke(cli, [name, "--help"], obj=Session())
    assert done.exit_code == 0, done.output
    assert f"Usage: cli {name}" in done.output
    place = next(commands[name][0] for commands in GROUPS.values() if name in commands)
    command = getattr(importlib.import_module(f"launcher.cli.{place}"), f"{name}_command")
    assert command.name == name
    assert command.help


def test_help_fits_a_terminal_of_80_columns() -> None:
    done = CliRunner().invoke(cli, ["--help"], obj=Session(), terminal_width=80)
    assert max(map(len, done.output.splitlines())) <= 80


@pytest.mark.parametrize(("theirs", "ours"), OTHERS.items())
def test_verbs_of_other_tools_are_answered_with_ours(theirs: str, ours: str) -> None:
    assert theirs not in NAMES
    assert ours in NAMES
    assert unknown(theirs).endswith(f"`launcher {ours}`")


@pytest.mark.parametrize("verb", ["launch", "stop", "down", "kill", "rm", "queue", "ls", "fetch", "submit"])
def test_the_verbs_that_people_try_first_are_known(verb: str) -> None:
    assert verb in OTHERS


@pytest.mark.parametrize("name", NOT_YET)
def test_what_is_not_there_says_so(name: str) -> None:
    assert unknown(name) == f"`launcher {name}` is not in this version"


def test_a_slip_of_the_finger_is_answered_with_the_nearest() -> None:
    assert unknown("statsu").endswith("did you mean `launcher status`?")


@pytest.mark.parametrize("name", NAMES)
def test_json_and_verbose_may_stand_behind_any_command(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    commands = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    for one in commands:
        flags = {flag for param in one.params for flag in param.opts}
        assert {"--json", "-v", "--verbose"} <= flags
