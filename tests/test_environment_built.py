"""One environment from a lock, built: the real script with the real uv and a served interpreter."""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.agent.fingerprint import packages
from launcher.environment import VenvPaths, env_path, plan, venv_script
from launcher.job.spec import Environment
from launcher.lock import Lock, parse_lock
from launcher.locking import LockSettings, write_lock
from launcher.tools import installed_uv
from tests.servers import interpreter
from tests.servers.interpreter import Served
from tests.test_bundle import write
from tests.test_environment import lock_of
from tests.test_sources import job

ARCH = os.uname().machine
ENVIRONMENT = Environment(python=interpreter.MINOR)
A, B = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with interpreter.serving() as served:
        yield served


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Lock:
    folder = tmp_path_factory.mktemp("lock")
    wanted = f"requirements: r.lock, python: '{interpreter.MINOR}'"
    made = job(folder / "job", wanted, r_in="click==8.1.8\nsix==1.17.0\n")
    return parse_lock(write_lock(made, LockSettings(folder / "cache", str(served.table))))


def build(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """As a machine does: fed to sh on standard input."""
    return subprocess.run(
        ["sh"], input=script, capture_output=True, text=True, env={**os.environ, **env}, check=False
    )


def paths(root: Path) -> VenvPaths:
    return VenvPaths(str(root), installed_uv())


def test_the_script_builds_what_the_lock_says(tmp_path: Path, lock: Lock, served: Served) -> None:
    made = plan(ENVIRONMENT, lock, ARCH)
    done = build(venv_script(made, paths(tmp_path / "a root")))
    assert done.returncode == 0, done.stderr
    ready = json.loads(done.stdout)
    wanted = {
        "v": 1,
        "key": made.key,
        "python": served.version,
        "wanted": served.version,
        "interpreter": "managed",
    }
    assert ready == wanted
    env = Path(env_path(made, str(tmp_path / "a root")))
    said = subprocess.run(
        [env / "bin/python", "-c", "import six, click, sys; print(sys.base_prefix)"], capture_output=True
    )
    assert said.stdout.decode().startswith(str(tmp_path / "a root" / "python"))
    assert sorted(path.name for path in env.parent.iterdir()) == [made.key]


def test_what_is_installed_is_exactly_what_is_locked_with_equal_digests_everywhere(
    tmp_path: Path, lock: Lock
) -> None:
    made = plan(ENVIRONMENT, lock, ARCH)
    found = []
    for name in ("here", "there"):
        assert build(venv_script(made, paths(tmp_path / name))).returncode == 0
        site = Path(env_path(made, str(tmp_path / name))) / f"lib/python{interpreter.MINOR}/site-packages"
        found.append(packages([str(site)]))
    assert all(found[0].values())
    assert found[0] == found[1]
    assert dict(name.split("==") for name in found[0]) == made.locked


def test_the_second_time_nothing_is_done(tmp_path: Path, lock: Lock) -> None:
    script = venv_script(plan(ENVIRONMENT, lock, ARCH), paths(tmp_path))
    first = build(script)
    started = time.monotonic()
    second = build(script, UV_OFFLINE="1")
    assert second.stdout == first.stdout
    assert second.stderr == ""
    assert time.monotonic() - started < 0.5


def test_a_new_package_downloads_no_interpreter_again(tmp_path: Path, lock: Lock, served: Served) -> None:
    build(venv_script(plan(ENVIRONMENT, lock, ARCH), paths(tmp_path)))
    asked = len(served.asked)
    fewer = replace(lock, all=lock.all[:1])
    assert build(venv_script(plan(ENVIRONMENT, fewer, ARCH), paths(tmp_path))).returncode == 0
    assert len(served.asked) == asked


@pytest.mark.parametrize(
    "part", ["{env}.work/rest.txt", "python", "{env}/pyvenv.cfg", "{env}/lib/*/*/*.dist-info"]
)
def test_a_build_that_was_killed_starts_over_cleanly(tmp_path: Path, lock: Lock, part: str) -> None:
    """SIGKILL to the whole build, as soon as a part of it stands on the disk."""
    made = plan(ENVIRONMENT, lock, ARCH)
    script = venv_script(made, paths(tmp_path))
    env = Path(env_path(made, str(tmp_path)))
    victim = subprocess.Popen(
        ["sh"], stdin=subprocess.PIPE, start_new_session=True, stderr=subprocess.DEVNULL
    )
    assert victim.stdin
    victim.stdin.write(script.encode())
    victim.stdin.close()
    while not glob.glob(str(tmp_path / part.format(env=f"envs/{made.key}"))) and victim.poll() is None:
        time.sleep(0.0002)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not (env / ".ready").exists()
    write(env, {"half": b"left over", ".ready.tmp": b"{"})
    done = build(script)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["key"] == made.key
    assert not (env / "half").exists()


def test_a_script_that_arrives_in_part_does_nothing(tmp_path: Path, lock: Lock) -> None:
    script = venv_script(plan(ENVIRONMENT, lock, ARCH), paths(tmp_path / "root"))
    for length in range(0, len(script) - len("main\n"), 397):
        build(script[:length])
    assert not (tmp_path / "root").exists()


def test_an_archive_with_another_hash_is_not_used(tmp_path: Path, lock: Lock) -> None:
    forged = replace(lock, interpreters=tuple(replace(one, sha256=B) for one in lock.interpreters))
    done = build(venv_script(plan(ENVIRONMENT, forged, ARCH), paths(tmp_path)))
    assert "Hash mismatch" in done.stderr
    assert done.returncode != 0 or json.loads(done.stdout)["interpreter"] == "found"


def test_where_the_address_does_not_answer_a_python_of_that_version_is_found(
    tmp_path: Path, lock: Lock
) -> None:
    gone = replace(
        lock, interpreters=tuple(replace(one, url="http://127.0.0.1:9/x.tar.gz") for one in lock.interpreters)
    )
    done = build(venv_script(plan(ENVIRONMENT, gone, ARCH), paths(tmp_path)), UV_HTTP_RETRIES="0")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["interpreter"] == "found"


def test_a_machine_without_any_such_python_says_so_in_one_line(tmp_path: Path) -> None:
    nowhere = lock_of(
        "six==1.17.0", python="3.7.1", more=f"# interpreter: linux {ARCH} http://127.0.0.1:9/x sha256:{A}\n"
    )
    env = {
        "UV_HTTP_RETRIES": "0",
        "HOME": str(tmp_path),
        "PYENV_ROOT": str(tmp_path),
        "PATH": "/nowhere:/bin",
    }
    done = build(venv_script(plan(Environment(), nowhere, ARCH), paths(tmp_path)), **env)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "launcher: no CPython 3.7.1: it could not be downloaded, and this machine has none like it"


def test_a_wheel_that_is_not_the_locked_one_is_refused(tmp_path: Path, lock: Lock) -> None:
    forged = replace(lock, all=tuple(replace(pin, hashes=(f"sha256:{B}",)) for pin in lock.all))
    done = build(venv_script(plan(ENVIRONMENT, forged, ARCH), paths(tmp_path)))
    assert done.returncode == 1
    assert "Hash mismatch" in done.stderr
    assert done.stderr.splitlines()[-1] == "launcher: the locked packages could not be installed"


def test_an_environment_whose_interpreter_is_gone_is_built_again(tmp_path: Path, lock: Lock) -> None:
    script = venv_script(plan(ENVIRONMENT, lock, ARCH), paths(tmp_path))
    build(script)
    shutil.rmtree(tmp_path / "python")
    assert build(script).returncode == 0
    assert (tmp_path / "python").exists()


def test_a_job_of_the_standard_library_takes_the_python_that_is_there(tmp_path: Path) -> None:
    done = build(venv_script(plan(Environment(), None, ARCH), paths(tmp_path)), UV_OFFLINE="1")
    assert json.loads(done.stdout)["interpreter"] == "found", done.stderr
