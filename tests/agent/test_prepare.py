"""What must be true before a job starts, and what is said when it is not."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.segment import AGENT, ROOT, SegmentFolder


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The bin folder of a virtual environment with one package, installed as pip would."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    site = next(venv.glob("lib/python*/site-packages"))
    info = site / "Tiny_Pkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Tiny_Pkg\nVersion: 1.0\n")
    (info / "RECORD").write_text("tiny.py,sha256=abc,3\nTiny_Pkg-1.0.dist-info/RECORD,,\n")
    return venv / "bin"


def test_an_environment_that_is_what_the_lock_says_runs(segment: SegmentFolder, python: Path) -> None:
    segment.run("python -c 'import sys; print(sys.prefix)'", bin=str(python), locked={"tiny-pkg": "1.0.0"})
    assert segment.said("stdout").strip() == str(python.parent)


@pytest.mark.parametrize(
    ("locked", "said"),
    [
        ({"tiny-pkg": "1.1"}, "tiny-pkg is 1.0, locked is 1.1"),
        ({"tiny-pkg": "1.0", "torch": "2.14.1"}, "torch 2.14.1 is locked but not installed"),
        ({}, "tiny-pkg 1.0 is installed but not locked"),
    ],
)
def test_another_environment_than_the_locked_one_ends_before_the_job(
    segment: SegmentFolder, python: Path, locked: dict[str, str], said: str
) -> None:
    end = segment.run("echo ran", bin=str(python), locked=locked)
    assert (end["state"], end["reason"], end["exit_code"]) == ("failed", "environment", None)
    assert said in segment.said()
    assert segment.said("stdout") == ""


def test_another_minor_python_than_the_locked_one_ends_too(segment: SegmentFolder, python: Path) -> None:
    end = segment.run("echo ran", bin=str(python), locked={"tiny-pkg": "1.0"}, python="3.7.1")
    assert end["reason"] == "environment"
    assert "locked is 3.7.1" in segment.said()


def test_a_torch_that_would_not_see_the_gpu_ends_in_the_first_second(
    segment: SegmentFolder, python: Path, tmp_path: Path
) -> None:
    """The nvidia-smi is a fake: it prints what a real one prints of a driver for CUDA 12.4."""
    site = next(python.parent.glob("lib/python*/site-packages"))
    (site / "torch").mkdir()
    (site / "torch" / "version.py").write_text("cuda: Optional[str] = '13.0'\n")
    (site / "torch-2.14.1.dist-info").mkdir()
    (site / "torch-2.14.1.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.14.1\n")
    smi = tmp_path / "fake" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(
        "#!/bin/sh\ncase $1 in *compute_cap*) echo Tesla T4, 15360, 550.54.15, 7.5;; "
        "*) echo '| Driver Version: 550.54.15   CUDA Version: 12.4 |';; esac\n"
    )
    smi.chmod(0o755)
    path = {"PATH": f"{smi.parent}:{os.environ['PATH']}"}
    end = segment.run("echo ran", bin=str(python), gpus=1, environment=path)
    assert (end["state"], end["reason"], end["exit_code"]) == ("failed", "environment", None)
    assert "the driver reaches 12.4; `torch: cu126` would work" in segment.said()


def test_a_checkpoint_to_resume_from_is_given_when_it_is_what_was_sent(segment: SegmentFolder) -> None:
    put(segment.path / "resume" / "step-3" / "inner" / "w", b"weights")
    digest = {"step-3/inner/w": hashlib.sha256(b"weights").hexdigest()}
    segment.run("cat $LAUNCHER_RESUME/inner/w", resume="resume/step-3", resume_digest=digest)
    assert segment.said("stdout") == "weights"


@pytest.mark.parametrize("fault", ["missing", "changed", "more", "link"])
def test_another_checkpoint_than_was_sent_ends_before_the_job(segment: SegmentFolder, fault: str) -> None:
    path = segment.path / "resume" / "a.pt"
    if fault == "link":
        path.parent.mkdir()
        path.symlink_to("/etc/passwd")
    elif fault != "missing":
        put(path, b"weights" if fault == "more" else b"other")
    if fault == "more":
        put(segment.path / "resume" / "b.pt", b"")
    digest = {"a.pt": hashlib.sha256(b"weights").hexdigest()}
    end = segment.run("echo ran", resume="resume/a.pt", resume_digest=digest)
    assert (end["state"], end["exit_code"]) == ("failed", None)
    assert end["reason"].startswith("agent: the checkpoint to resume from")
    assert segment.said("stdout") == ""


def test_a_secret_that_did_not_come_ends_before_the_job(segment: SegmentFolder) -> None:
    end = segment.run("echo ran", secrets=["HF_TOKEN"])
    assert end["reason"] == "agent: no value came for the secret HF_TOKEN"


def test_without_a_line_on_stdin_there_are_no_secrets(segment: SegmentFolder) -> None:
    segment.order("echo ran")
    subprocess.run([*AGENT, str(segment.path)], cwd=ROOT, stdin=subprocess.DEVNULL, check=True)
    assert segment.said("stdout") == "ran\n"


def test_sigterm_while_it_waits_for_secrets_ends_it(segment: SegmentFolder) -> None:
    segment.order("echo ran")
    segment.agent = subprocess.Popen([*AGENT, str(segment.path)], cwd=ROOT, stdin=subprocess.PIPE)
    segment.until(lambda: (segment.path / "manifest.jsonl").exists())
    segment.agent.send_signal(signal.SIGTERM)
    end = segment.wait()
    assert (end["state"], end["reason"], end["exit_code"]) == ("preempted", "signal", None)


def test_a_stop_that_came_first_means_that_nothing_starts(segment: SegmentFolder) -> None:
    segment.stop()
    end = segment.run("echo ran")
    assert (end["state"], end["reason"], end["exit_code"]) == ("cancelled", "cancel", None)
    assert segment.said("stdout") == ""


def test_secrets_leave_no_file_behind(segment: SegmentFolder, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    segment.run("ls $LAUNCHER_SECRETS", values={"A_TOKEN": "x" * 20}, secrets_dir=str(folder))
    assert segment.said("stdout") == "A_TOKEN\n"
    assert not folder.exists()


def test_secrets_of_a_killed_agent_leave_no_file_either(segment: SegmentFolder, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    agent = segment.start("echo up; sleep 60", values={"A_TOKEN": "x" * 20}, secrets_dir=str(folder))
    segment.until_said("up")
    agent.kill()
    segment.until(lambda: not folder.exists())


def put(path: Path, data: bytes) -> None:
    os.makedirs(path.parent, exist_ok=True)
    path.write_bytes(data)
