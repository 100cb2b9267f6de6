"""What /proc and the control groups tell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launcher.agent import proc


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("low 0\nhigh 3\nmax 9\noom 2\noom_kill 2\n", 2),  # memory.events of version 2
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", 7),  # memory.oom_control of version 1
        ("oom_kill_disable 0\nunder_oom 0\n", None),  # of an old kernel
    ],
)
def test_kills_for_memory_are_read_in_every_dialect(tmp_path: Path, text: str, count: int | None) -> None:
    (tmp_path / "counts").write_text(text)
    assert proc.counter(str(tmp_path / "counts"), "oom_kill") == count
    assert proc.counter(str(tmp_path / "none"), "oom_kill") is None


def test_this_machine_counts_its_kills_for_memory() -> None:
    group, machine = proc.oom_kills()
    assert group >= 0
    assert machine >= 0


def test_a_shell_is_known_by_what_it_runs() -> None:
    with subprocess.Popen(["sh", "-c", "read x; exit"], stdin=subprocess.PIPE) as shell:
        assert proc.is_shell(shell.pid)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as other:
        assert not proc.is_shell(other.pid)
    assert not proc.is_shell(2**22 + 1)


def test_a_name_with_spaces_and_brackets_confuses_nothing(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 ("
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as child:
        assert child.pid in proc.children(os.getpid())
        child.kill()
