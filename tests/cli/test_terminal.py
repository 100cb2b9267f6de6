"""What a person at a terminal sees: phases, colours, what to do next; and a shell beside the job."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.cli.conftest import Job
from tests.cli.terminal import at_terminal

MakeJob = Callable[..., Job]
PAINTS = r"print('\x1b[31mred\x1b[0m \x1b]0;title\x07plain')"


def test_phases_colours_and_at_most_two_next_commands(job: MakeJob) -> None:
    made = job(PAINTS)
    terminal = at_terminal(made.laptop, "run", str(made.folder))
    assert terminal.end() == 0
    assert re.search(r"✓ pack  .*\d\.\d s", terminal.said)
    assert "\x1b[31mred\x1b[0m plain\r\n" in terminal.said
    assert "\x1b]0;" not in terminal.said
    assert 1 <= terminal.said.count("next: launcher ") <= 2


def test_elsewhere_there_are_no_next_commands(job: MakeJob) -> None:
    assert "next:" not in job(PAINTS).run().err


def test_no_color_and_a_dumb_terminal_are_honoured(job: MakeJob) -> None:
    made = job(PAINTS)
    plain = at_terminal(made.laptop, "run", str(made.folder), NO_COLOR="1")
    assert plain.end() == 0
    assert "red plain\r\n" in plain.said
    assert not re.search(r"\x1b\[[0-9;]*m", plain.said.replace("\x1b[0m", ""))
    dumb = at_terminal(made.laptop, "run", str(made.folder), TERM="dumb")
    assert dumb.end() == 0
    assert "\x1b" not in dumb.said


def test_forced_colour_puts_nothing_into_a_file(job: MakeJob) -> None:
    done = job(PAINTS).run(FORCE_COLOR="1", TTY_COMPATIBLE="1", CLICOLOR_FORCE="1", CI="true")
    assert done.out == "red plain\n"
    assert "\x1b" not in done.err


def test_ssh_opens_a_shell_where_the_job_runs(job: MakeJob) -> None:
    made = job("import time; time.sleep(600)")
    assert made.run("-d", "--name", "shelled").code == 0
    try:
        terminal = at_terminal(made.laptop, "ssh", "shelled")
        terminal.type("test -e job.py && echo found-$((40 + 2)); exit 3\n")
        assert terminal.end() == 3, terminal.said
        assert "found-42" in terminal.said
    finally:
        made.laptop("release", "shelled", "--force")
