"""What a person sees: one plain line a phase in a file, bars and elapsed times on a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pyte

from launcher.events import ArtifactHome, Event, Notice, Progress, Result, StateChanged
from launcher.render.screen import Manner, Screen
from launcher.render.sink import Sink

UPLOAD = [Progress("upload", "bundle", done, 2_100_000) for done in range(0, 2_100_000, 100_000)]
RUN = "flowers-abcd2345"


def seen(*events: Event, verbose: bool = False) -> str:
    err = io.BytesIO()
    screen = Screen(Sink(io.BytesIO()), Sink(err), Manner(verbose=verbose))
    for event in events:
        screen.show(event)
    screen.close()
    return err.getvalue().decode()


def test_a_phase_is_one_plain_line_in_a_file() -> None:
    assert (
        seen(*UPLOAD, Progress("upload", "bundle", 2_100_000, 2_100_000, True)) == "upload: bundle, 2.1 MB\n"
    )


def test_verbose_says_each_step_of_a_phase_once() -> None:
    steps = [Progress("image", "step 1/2"), Progress("image", "step 2/2"), Progress("image", "step 2/2")]
    assert seen(*steps) == "image: step 1/2\n"
    assert seen(*steps, verbose=True) == "image: step 1/2\nimage: step 2/2\n"


def test_an_end_is_one_line() -> None:
    assert seen(Result(RUN, "failed", 3, "", {"exit_code": 3})) == f"{RUN} failed (exit 3)\n"
    assert seen(Result(RUN, "timed_out", 124, "time")) == f"{RUN} was stopped by a limit: time\n"
    assert seen(Result(RUN, "running", 0)) == ""


def test_the_start_of_the_job_is_told_with_the_time_it_took() -> None:
    assert re.fullmatch(rf"{RUN} is running after 0\.\d s\n", seen(StateChanged(RUN, 0, "running")))


def test_what_comes_home_is_told() -> None:
    artifact = ArtifactHome(RUN, "checkpoint", "epoch-1.pt", "/x", 44_800_000, "ab")
    assert seen(Progress("pull", "epoch-1.pt"), artifact) == "checkpoint epoch-1.pt is home (44.8 MB)\n"


def test_a_server_cannot_put_lines_or_escapes_into_chatter() -> None:
    assert seen(Notice("bad\n\x1b[2Jerror: none")) == "bad error: none\n"
    assert seen(Progress("build", "Step 1\x1b]0;x\x07\r\nerror")) == "build: Step 1 error\n"


ON_A_TERMINAL = """
import sys, time
from launcher.render.sink import standard
from launcher.render.screen import Screen
from launcher.events import *
screen = Screen(*standard(True))
screen.show(Progress("pack", "12 files", finished=True))
for done in range(0, 2_100_000, 100_000):
    screen.show(Progress("upload", "bundle", done, 2_100_000))
    time.sleep(0.02)
screen.show(Progress("upload", "bundle", 2_100_000, 2_100_000, True))
screen.show(LogLines(b'{"stream":"stdout","text":"epoch 1\\\\n"}\\n'))
screen.show(LogLines(b'{"stream":"stderr","text":"\\\\r 10%"}\\n'))
screen.show(Notice("a warning", "warning"))
screen.close()
"""


def on_a_terminal(script: str, **environ: str) -> bytes:
    """What a terminal gets from a script whose three streams it is."""
    main, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=other,
        stdout=other,
        stderr=other,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", **environ},
        cwd=Path(__file__).parents[2],
    )
    os.close(other)
    data = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not chunk:
            break
        data += chunk
    os.close(main)
    assert process.wait() == 0, data.decode()
    return data


def test_a_terminal_sees_a_bar_and_keeps_a_line_with_the_elapsed_time() -> None:
    data = on_a_terminal(ON_A_TERMINAL)
    assert b"\xe2\x94\x81" in data  # ━, of the bar
    assert b"/2.1 MB" in data
    screen = pyte.Screen(100, 20)
    pyte.ByteStream(screen).feed(data)
    lines = [line.rstrip() for line in screen.display if line.strip()]
    assert lines[0].startswith("✓ pack  12 files")
    assert re.fullmatch(r"✓ upload  bundle  2\.1 MB  0\.\d s", lines[1])
    assert lines[2:] == ["epoch 1", " 10%", "warning: a warning"]
    assert not screen.cursor.hidden


def test_a_file_gets_no_control_characters_whatever_ci_services_set() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_A_TERMINAL],
        env={"PATH": os.environ["PATH"], "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "CI": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"epoch 1\n"
    assert done.stderr == b"pack: 12 files\nupload: bundle, 2.1 MB\n 10%\nwarning: a warning\n"


def test_imports_that_only_a_terminal_needs_are_left_out_elsewhere() -> None:
    script = ON_A_TERMINAL + "assert 'rich' not in sys.modules\n"
    subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, cwd=Path(__file__).parents[2]
    )


def test_a_block_of_lines_ends_the_moving_bar_first() -> None:
    data = on_a_terminal(ON_A_TERMINAL)
    assert data.index(b"\x1b[?25h") < data.index(b"epoch 1")
