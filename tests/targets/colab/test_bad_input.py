"""What goes wrong at Colab: one line that says what to do, nothing lost, and no runtime left that spends units."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.plain import PlainClient
from tests.emulators.colab.settings import DENIED, DENYLISTED, EXCEEDED, Settings
from tests.laptop import Laptop, records
from tests.targets.colab.bed import (
    assert_whole,
    at_step_two,
    emptied,
    laptop_at,
    let_go,
    one_line,
    printed,
    waiting_job,
)

MIB = 1 << 20
HOUR = 3600.0


@pytest.fixture(scope="module")
def colab() -> Iterator[Colab]:
    with Colab(Settings(max_sessions=3)) as emulator:
        yield emulator


@pytest.fixture
def laptop(colab: Colab, tmp_path: Path) -> Iterator[Laptop]:
    made = laptop_at(tmp_path / "laptop", colab)
    try:
        with emptied(colab):
            yield made
    finally:
        made.close()
        colab.change(idle_s=1.5 * HOUR, max_sessions=3)


# before the job has started


@pytest.mark.parametrize("outcome", [DENIED, EXCEEDED, DENYLISTED])
def test_a_runtime_that_is_not_given_is_one_line(colab: Colab, laptop: Laptop, outcome: int) -> None:
    colab.faults.outcome = outcome
    try:
        done = laptop.launcher("run", str(waiting_job(laptop)), "--on", "colab")
    finally:
        colab.faults.outcome = None
    assert done.code in (125, 126), done.err
    assert "Colab" in one_line(done.err)
    assert colab.endpoints == []
    assert laptop.status()["state"] != "running"
    assert "may still cost" not in laptop.ok("ps", "-a").err


def test_too_many_runtimes_are_the_next_targets_turn(colab: Colab, laptop: Laptop) -> None:
    laptop.ok("target", "add", "here", "local", "--docker", "never")
    colab.change(max_sessions=0)
    done = laptop.ok("run", str(waiting_job(laptop, waits=False)), "--on", "colab", "--on", "here")
    assert "step 6 " in done.out
    assert laptop.status()["target"] == "here"
    assert colab.endpoints == []
    assert "may still cost" not in laptop.ok("ps", "-a").err


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"resources": {"gpu": "A100"}}, "A100"),
        ({"resources": {"gpu": "T4", "count": 2}}, "2 GPUs"),
        ({"resources": {"gpu": "H200"}}, "no GPU of Colab"),
        ({"resources": {"memory": "40GB"}}, "memory: high"),
        ({"environment": {"python": "3.11", "apt": ["jq"]}}, "Docker"),
    ],
)
def test_what_the_account_cannot_have_is_refused_before_anything_is_asked(
    colab: Colab, laptop: Laptop, spec: dict[str, object], named: str
) -> None:
    before = len(colab.asked)
    done = laptop.launcher("run", str(laptop.job("too-much", "", **spec)), "--on", "colab")
    assert done.code == 126
    assert named in one_line(done.err)
    assert not [line for line in colab.asked[before:] if "assign " in line]


def test_a_runtime_version_that_is_no_more_is_refused_and_leaves_nothing(
    colab: Colab, laptop: Laptop
) -> None:
    (laptop.folder / "config").mkdir(mode=0o700)
    (laptop.folder / "config" / "targets.yaml").write_text("old:\n  type: colab\n  version: '2019.01'\n")
    done = laptop.launcher("run", str(waiting_job(laptop)), "--on", "old")
    assert done.code == 126
    assert "version" in one_line(done.err)
    assert "may still cost" not in laptop.ok("ps", "-a").err


def test_a_quota_that_is_spent_is_refused_with_the_time_of_its_refill(tmp_path: Path) -> None:
    with Colab(Settings(free_milli_units=0)) as poor:
        laptop = laptop_at(tmp_path / "laptop", poor)
        try:
            done = laptop.launcher("run", str(waiting_job(laptop)), "--on", "colab")
            assert done.code == 126
            assert "refilled at 20" in one_line(done.err)
        finally:
            laptop.close()


def test_a_lesser_runtime_than_was_asked_for_is_handed_back(colab: Colab, laptop: Laptop) -> None:
    colab.faults.given = {"T4": "NONE"}
    try:
        done = laptop.launcher("run", str(waiting_job(laptop, resources={"gpu": "T4"})), "--on", "colab")
    finally:
        colab.faults.given = {}
    assert done.code == 125
    assert "T4" in one_line(done.err)
    assert colab.endpoints == []


def test_a_wrong_token_is_one_line_that_says_how_to_sign_in(colab: Colab, laptop: Laptop) -> None:
    laptop.env["LAUNCHER_COLAB_TOKEN"] = "of-somebody-else"
    done = laptop.launcher("run", str(waiting_job(laptop)), "--on", "colab")
    assert done.code == 125
    assert "of-somebody-else" not in done.err
    one_line(done.err)
    assert "launcher check colab" in done.err
    assert "gcloud auth application-default login" in laptop.launcher("check", "colab").out


def test_an_environment_that_cannot_be_built_is_one_line_and_leaves_nothing(
    colab: Colab, laptop: Laptop
) -> None:
    job = waiting_job(laptop, waits=False, environment={"python": "3.11", "requirements": "lock.txt"})
    wrong = "nothing-of-this-name==1.0 --hash=sha256:" + "0" * 64 + "\n"
    (job / "lock.txt").write_text("# launcher-lock: 1\n# python: cpython 3.11.9\n" + wrong)
    done = laptop.launcher("run", str(job), "--on", "colab")
    assert done.code == 125
    assert "environment" in one_line(done.err)
    assert colab.endpoints == []


# while it runs


def test_a_reclaimed_runtime_is_preempted_and_the_run_goes_on_with_what_came_home(
    colab: Colab, laptop: Laptop
) -> None:
    running = laptop.start("run", str(waiting_job(laptop)), "--on", "colab")
    home = at_step_two(laptop)
    colab.reclaim()
    _, err = running.communicate(timeout=120)
    assert running.returncode == 124, err.decode()
    assert "Colab took the runtime back" in err.decode()
    assert laptop.status()["state"] == "preempted"
    assert "may still cost" not in laptop.ok("ps", "-a").err

    resumed = laptop.start("resume", "last")
    laptop.wait_for(lambda: "resumed at 2" in printed(home), "the second segment")
    assert resumed.wait(120) == 0
    assert_whole(home)
    assert colab.endpoints == []


def test_a_killed_kernel_costs_the_job_nothing(colab: Colab, laptop: Laptop) -> None:
    running = laptop.start("run", str(waiting_job(laptop)), "--on", "colab")
    home = at_step_two(laptop)
    assert colab.kill_kernels() >= 1
    let_go(colab)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 0, err.decode()
    assert_whole(home)


def test_a_dead_agent_is_lost_and_nothing_is_left_running(colab: Colab, laptop: Laptop) -> None:
    running = laptop.start("run", str(waiting_job(laptop)), "--on", "colab")
    home = at_step_two(laptop)
    state = next(colab.disk().glob("content/launcher/runs/*/0/state.json"))
    pid = json.loads(state.read_text())["agent_pid"]
    subprocess.run(["nsenter", "-t", _inside(colab), "-p", "kill", "-9", str(pid)], check=True)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 125, err.decode()
    assert laptop.status()["state"] == "lost"
    assert (home / "checkpoints" / "step-002.json").exists()
    assert colab.endpoints == []


def test_a_token_that_expires_while_the_payload_travels_or_the_job_runs(colab: Colab, laptop: Laptop) -> None:
    job = waiting_job(laptop)
    (job / "weights.bin").write_bytes(bytes(range(256)) * (6 * MIB // 256))
    colab.faults.expire_after_bytes = 3 * MIB
    running = laptop.start("run", str(job), "--on", "colab", "-y")
    home = at_step_two(laptop)
    assert colab.faults.expire_after_bytes is None
    colab.expire_tokens()
    let_go(colab)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 0, err.decode()
    assert_whole(home)


def test_connections_that_are_cut_again_and_again_lose_no_line(colab: Colab, laptop: Laptop) -> None:
    script = "import time\nfor i in range(3000):\n    print('line', i, 'x' * 100)\n    time.sleep(0.001)\n"
    colab.faults.cut_after_s = 0.5
    laptop.ok("run", str(laptop.job("talks", script)), "--on", "colab", "-d")
    colab.faults.cut_after_bytes = 100_000
    done = laptop.ok("attach", "last")
    assert [line.split()[1] for line in done.out.splitlines()] == [str(i) for i in range(3000)]
    numbers = [line["seq"] for line in records(_home(laptop) / "log.jsonl")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_visible_cell_keeps_an_unattended_run_alive_and_comes_back_with_the_follower(
    colab: Colab, laptop: Laptop
) -> None:
    laptop.ok("run", str(waiting_job(laptop)), "--on", "colab", "-d")
    laptop.wait_for(lambda: _busy(colab), "a cell")
    colab.change(idle_s=5)
    _seconds(8)
    colab.change(idle_s=HOUR)
    colab.kill_kernels()
    for _ in range(
        100
    ):  # not for ever: Jupyter may go on calling a kernel busy that died in the middle of a cell
        if not _busy(colab):
            break
        time.sleep(0.1)
    running = laptop.start("attach", "last")
    laptop.wait_for(lambda: _busy(colab), "another cell")
    colab.change(idle_s=5)
    _seconds(8)
    colab.change(idle_s=HOUR)
    let_go(colab)
    assert running.wait(120) == 0
    assert_whole(_home(laptop))
    assert list(colab.ended.values())[-1] == "unassigned"


def test_a_reclaimed_runtime_that_nobody_followed_is_told_by_any_look(colab: Colab, laptop: Laptop) -> None:
    laptop.ok("run", str(waiting_job(laptop)), "--on", "colab", "-d")
    colab.reclaim()
    assert laptop.status()["state"] == "preempted"
    laptop.ok("release", "last")
    assert laptop.launcher("attach", "last").code == 124


def _home(laptop: Laptop) -> Path:
    return Path(laptop.status()["out"])


def _inside(colab: Colab) -> str:
    """A process of the newest runtime's own namespace."""
    top = colab.process_id()
    children = Path(f"/proc/{top}/task/{top}/children").read_text().split()
    return children[0]


def _busy(colab: Colab) -> bool:
    """Whether a cell runs in the newest runtime."""
    (runtime,) = PlainClient.of(colab).runtimes().values()
    kernels = runtime.request("GET", "/api/kernels").json()
    return any(kernel["execution_state"] == "busy" for kernel in kernels)


def _seconds(count: float) -> None:
    """What is asked for here is that nothing happens."""
    time.sleep(count)
