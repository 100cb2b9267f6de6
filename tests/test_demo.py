"""`launcher demo` shows, with nothing installed and no network, that a killed run ends as an undisturbed one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.demo import train

ROOT = Path(__file__).parents[1]
SAME = re.compile(r"^same weights as an undisturbed run: sha256 ([0-9a-f]{64}) = ([0-9a-f]{64})$", re.M)


def demo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """In folders of its own; whatever would go to the network meets a closed door."""
    nowhere = "http://127.0.0.1:9"
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(ROOT),
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
        "ALL_PROXY": nowhere,
    }
    return subprocess.run(
        [sys.executable, "-m", "launcher", *words, "demo"],
        env=environ,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path, float]:
    folder = tmp_path_factory.mktemp("demo")
    began = time.monotonic()
    done = demo(folder)
    return done, folder, time.monotonic() - began


Shown = tuple[subprocess.CompletedProcess[str], Path, float]


def test_it_proves_that_a_killed_and_resumed_run_has_the_weights_of_an_undisturbed_one(shown: Shown) -> None:
    done, _, _ = shown
    assert done.returncode == 0, done.stderr
    found = SAME.search(done.stdout)
    assert found
    assert found[1] == found[2]


def test_it_is_killed_in_the_middle_and_goes_on_from_there(shown: Shown) -> None:
    done, _, _ = shown
    assert "SIGKILL to the job and to its agent" in done.stderr
    assert "is lost" in done.stderr
    resumed = re.search(r"going on after epoch (\d+)", done.stdout)
    assert resumed
    assert 3 <= int(resumed[1]) < 12


def test_it_ends_with_three_commands_to_try(shown: Shown) -> None:
    done, _, _ = shown
    last = done.stdout.splitlines()[-3:]
    assert [line.split()[0] for line in last] == ["launcher"] * 3
    assert [line.split()[1] for line in last] == ["init", "plan", "run"]


def test_it_takes_less_than_15_seconds(shown: Shown) -> None:
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # others on this machine take their share
    assert shown[2] < 15 * crowd


def test_it_leaves_nothing_behind(shown: Shown) -> None:
    _, folder, _ = shown
    assert list(folder.glob("launcher-demo-*")) == []
    assert not (folder / ".launcher").exists()
    assert not (folder / ".local").exists()
    end = time.monotonic() + 10  # the last steward ends when it sees that its client is gone
    while str(folder) in _command_lines():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_json_ends_with_one_result_that_has_both_digests(tmp_path: Path) -> None:
    done = demo(tmp_path, "--json")
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    results = [value for value in objects if value["type"] == "result"]
    assert results == [objects[-1]]
    assert results[0]["same"] is True
    assert results[0]["sha256"] == results[0]["undisturbed_sha256"]
    assert results[0]["exit_code"] == 0


def test_its_training_resumes_exactly_and_other_settings_lead_elsewhere() -> None:
    data = train.spirals(100)

    def trained(model: train.Model, epochs: int, lr: float = 0.02) -> train.Model:
        for _ in range(epochs):
            train.train_one_epoch(model, data, lr)
            model["epoch"] += 1
        return model

    whole = trained(train.new_model(), 4)
    saved = json.loads(json.dumps(trained(train.new_model(), 2)))
    assert trained(saved, 2) == whole
    assert trained(train.new_model(), 4, lr=0.021) != whole


def _command_lines() -> str:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(lines)
