"""The job's side of the contract: files and folders that are whole or not there, metrics, an end in time."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.inside import JOBS

SAVE = """
from common import write_folder
from pathlib import Path
import os, sys
def fill(folder):
    (folder / "a").write_text(sys.argv[2])
    if sys.argv[3] == "die":
        os.kill(os.getpid(), 9)
    if sys.argv[3] == "full":
        raise OSError(28, "No space left on device")
write_folder(Path(sys.argv[1]), fill)
"""
MEND = "from common import mend; from pathlib import Path; import sys; mend(Path(sys.argv[1]))"


def run(code: str, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Standard library only: any Python will do."""
    command = [sys.executable, "-S", "-c", code, *map(str, args)]
    surroundings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(JOBS)} | env
    return subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        assert run(SAVE, tmp_path / "best", text, "").returncode == 0
    assert (tmp_path / "best" / "a").read_text() == "new"
    assert [f.name for f in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize(("end", "status"), [("full", 1), ("die", -signal.SIGKILL)])
def test_what_fails_in_the_middle_leaves_the_older_folder(tmp_path: Path, end: str, status: int) -> None:
    run(SAVE, tmp_path / "best", "old", "")
    assert run(SAVE, tmp_path / "best", "new", end).returncode == status
    assert (tmp_path / "best" / "a").read_text() == "old"
    run(MEND, tmp_path / "best")
    assert [f.name for f in tmp_path.iterdir()] == ["best"]


def test_a_kill_between_the_two_renames_is_mended(tmp_path: Path) -> None:
    (tmp_path / "best.old.tmp").mkdir()
    (tmp_path / "best.old.tmp" / "a").write_text("old")
    (tmp_path / "best.tmp").mkdir()
    run(MEND, tmp_path / "best")
    assert (tmp_path / "best" / "a").read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["best"]


def test_typed_flags_win_over_launchers_params() -> None:
    code = "import common; print(common.arguments())"
    said = run(code, "--lr=2", LAUNCHER_PARAMS='{"lr": 1, "test_share": 0.5}').stdout
    assert said == "['--lr=1', '--test-share=0.5', '--lr=2']\n"


def test_a_resumed_run_forgets_the_steps_that_it_repeats_and_a_torn_line(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step}) + "\n" for step in range(4)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"step": 4')
    run("import common, pathlib, sys; common.forget_after(pathlib.Path(sys.argv[1]), 2)", tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(lines[:2])


def test_the_newest_files_and_folders_are_kept(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"step-{number}").mkdir()
        os.utime(tmp_path / f"step-{number}", (number, number))
    run("import common, pathlib, sys; common.keep_newest(pathlib.Path(sys.argv[1]), 'step-*', 2)", tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["step-2", "step-3"]


def test_a_kill_while_an_old_checkpoint_is_deleted_leaves_no_half_of_it(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"step-{number}").mkdir()
        (tmp_path / f"step-{number}/state.json").write_text("{}")
        os.utime(tmp_path / f"step-{number}", (number, number))
    killed = "import os, shutil; shutil.rmtree = lambda path, **_: os._exit(9)\n"
    keep = "import common, pathlib, sys; common.keep_newest(pathlib.Path(sys.argv[1]), 'step-?', 2)"
    assert run(killed + keep, tmp_path).returncode == 9
    assert sorted(f.name for f in tmp_path.iterdir()) == ["step-0.gone.tmp", "step-1", "step-2"]
    run(keep, tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["step-1", "step-2"]


def test_a_refusal_is_one_line_and_status_2() -> None:
    ended = run("import common; common.refuse('this\\n  is bad')")
    assert (ended.returncode, ended.stderr, ended.stdout) == (2, "this is bad\n", "")


def test_a_job_that_holds_nothing_ends_at_once_when_it_is_asked() -> None:
    code = "import common, os, signal; common.Stop(); os.kill(os.getpid(), signal.SIGTERM); print('on')"
    ended = run(code)
    assert (ended.returncode, ended.stdout) == (75, "")


def test_a_job_that_holds_its_work_ends_when_it_is_saved() -> None:
    code = (
        "import common, os, signal\nstop = common.Stop()\n"
        "with stop.held():\n    os.kill(os.getpid(), signal.SIGTERM)\n    print('saved', stop.asked)\nprint('on')"
    )
    ended = run(code)
    assert (ended.returncode, ended.stdout) == (75, "saved True\n")
