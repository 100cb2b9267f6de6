"""Notebooks in the emulated Kaggle: nothing leaks in, its cuts cost nothing, and no internet is no obstacle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher import environment
from launcher.job.gpu import Gpu
from launcher.job.spec import Environment, Resources
from launcher.lock import Lock, parse_lock
from launcher.locking import LockSettings, write_lock
from launcher.notebook import wheelhouse
from launcher.notebook.ipynb import Options, notebook
from launcher.notebook.payload import Platform, write
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.machine import TRAP
from tests.emulators.kaggle.plain import Plain
from tests.emulators.kaggle.sessions import Session, wait_until
from tests.notebook.runs import COUNT, Wish, submission
from tests.servers import interpreter
from tests.test_sources import job

ROOT, WORKING = "/kaggle/tmp/launcher", "/kaggle/working"
PROBE = f"""
import importlib.util, json, os, sys, click
print(json.dumps({{"trap": importlib.util.find_spec("{TRAP}") is not None, "path": sys.path,
    "names": sorted(os.environ), "driver": os.environ.get("LD_LIBRARY_PATH"), "click": click.__file__}}))
"""


@dataclass(frozen=True)
class Locked:
    """A lock of two small packages, made with a served interpreter."""

    data: bytes
    lock: Lock
    environment: Environment


@pytest.fixture(scope="module")
def kaggle() -> Iterator[Kaggle]:
    with Kaggle() as running:
        yield running


@pytest.fixture(scope="module")
def client(kaggle: Kaggle) -> Plain:
    return Plain(kaggle)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    folder = tmp_path_factory.mktemp("lock")
    with interpreter.serving() as served:
        wanted = f"requirements: r.lock, python: '{interpreter.MINOR}'"
        made = job(folder / "job", wanted, r_in="click==8.1.8\nsix==1.17.0\n")
        data = write_lock(made, LockSettings(folder / "cache", str(served.table)))
        spec = Environment(python=interpreter.MINOR, requirements="r.lock")
        yield Locked(data, parse_lock(data), spec)


def wish(locked: Locked, **more: Any) -> Wish:
    files = {"count.py": COUNT, "probe.py": PROBE}
    known = {"environment": locked.environment, "lock": locked.lock, "lock_data": locked.data}
    return Wish(**{"command": "python probe.py; python count.py 3 0.02", "files": files, **known, **more})


def push(client: Plain, folder: Path, wanted: Wish, **more: Any) -> tuple[Session, str]:
    """The session of a pushed notebook, and where its segment's folder lies in the outputs."""
    house = more.pop("wheelhouse", "")
    way = more.pop("way", "kaggle")
    sent = submission(folder, wanted)
    payload = write(sent, folder / "payload", Platform("kaggle", ROOT, WORKING, 43200.0, way, house))
    text = notebook(payload, Options("count", readable=False))
    client.save(f"nb-{sent.segment.run_id[-8:]}", text, kernelType="notebook", **more)
    return client.kaggle.sessions[-1], f"{sent.segment.run_id}/{sent.segment.number}"


def printed(session: Session) -> str:
    return "".join(
        event["data"] for event in json.loads(session.log.array()) if event["stream_name"] == "stdout"
    )


def log_of(text: str) -> bytes:
    return "".join(
        line for line in text.splitlines(keepends=True) if line.startswith('{"v":1,"seq":')
    ).encode()


@dataclass(frozen=True)
class Ended:
    """A session and what it left."""

    session: Session
    place: str

    @property
    def printed(self) -> str:
        return printed(self.session)

    @property
    def fingerprint(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.output("fingerprint.json"))
        return value

    def output(self, name: str) -> bytes:
        return output(self.session, self.place, name)


def output(session: Session, place: str, name: str) -> bytes:
    assert session.outputs is not None
    return (session.outputs / place / name).read_bytes()


@pytest.fixture(scope="module")
def online(kaggle: Kaggle, client: Plain, locked: Locked, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A run whose environment came from the internet."""
    session, place = push(
        client, tmp_path_factory.mktemp("online"), wish(locked), machineShape="NvidiaTeslaT4"
    )
    kaggle.wait("COMPLETE", session, timeout_s=180)
    return Ended(session, place)


def test_what_the_cell_prints_is_the_log_and_the_metrics(online: Ended) -> None:
    lines = online.printed.splitlines()
    assert lines[0] == f"launcher: session {online.session.id}"
    assert "launcher: GPU: 2 x FAKE Tesla T4" in lines
    assert lines[-1] == "launcher: ended succeeded 0"
    assert log_of(online.printed) == online.output("log.jsonl")
    mark = "launcher:metrics "
    metrics = "".join(line.removeprefix(mark) + "\n" for line in lines if line.startswith(mark))
    assert metrics.encode() == online.output("out/metrics.jsonl")


def test_the_job_runs_in_its_own_environment_and_nothing_leaks_in(online: Ended) -> None:
    texts = [json.loads(line)["text"] for line in log_of(online.printed).splitlines()]
    seen = next(json.loads(one) for one in texts if "trap" in one)
    assert seen["trap"] is False
    assert seen["click"].startswith(f"{ROOT}/envs/")
    assert not any("/kaggle/lib" in path or path.startswith("/root") for path in seen["path"])
    foreign = ("KAGGLE", "PYTHONPATH", "PYTHONUSERBASE", "UV")
    assert not [name for name in seen["names"] if name.startswith(foreign)]
    assert seen["driver"] == "/usr/local/nvidia/lib64"
    names = [name.split("==")[0] for name in online.fingerprint["portable"]["packages"]]
    assert (names, online.fingerprint["shown"]["build"]) == (["click", "six"], "managed")


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "wheels"])
def test_without_internet_the_same_environment_comes_from_a_dataset(
    kaggle: Kaggle, client: Plain, locked: Locked, online: Ended, tmp_path: Path, finished: bool
) -> None:
    plan = environment.plan(locked.environment, locked.lock, "x86_64")
    list(wheelhouse.fetching(plan, locked.lock, tmp_path / "house", finished))
    files = wheelhouse.listed(tmp_path / "house")
    assert ("frozen-0.bin" in [file.name for file in files]) is finished
    slug = f"launcher-env-{finished}-{plan.key}".lower()
    client.dataset(slug, {file.name: file.path.read_bytes() for file in files})
    more = {"enableInternet": False, "datasetDataSources": [f"alice/{slug}"]}
    ended = Ended(*push(client, tmp_path, wish(locked), wheelhouse=f"/kaggle/input/{slug}", **more))
    kaggle.wait("COMPLETE", ended.session, timeout_s=180)
    assert ended.printed.endswith("launcher: ended succeeded 0\n"), ended.printed
    assert ended.fingerprint["portable"] == online.fingerprint["portable"]
    assert ended.fingerprint["shown"]["build"] == "managed"
    assert f"building from /kaggle/input/{slug}" in ended.printed


def test_a_damaged_dataset_is_found_by_its_hash(
    kaggle: Kaggle, client: Plain, locked: Locked, tmp_path: Path
) -> None:
    plan = environment.plan(locked.environment, locked.lock, "x86_64")
    files = {
        file.name: file.path.read_bytes() for file in wheelhouse.collect(plan, locked.lock, tmp_path / "h")
    }
    at = len(files["frozen-1.bin"]) // 2
    files["frozen-1.bin"] = files["frozen-1.bin"][:at] + b"x" + files["frozen-1.bin"][at + 1 :]
    client.dataset("launcher-env-damaged", files)
    more = {"enableInternet": False, "datasetDataSources": ["alice/launcher-env-damaged"]}
    ended = Ended(
        *push(client, tmp_path, wish(locked), wheelhouse="/kaggle/input/launcher-env-damaged", **more)
    )
    kaggle.wait("COMPLETE", ended.session, timeout_s=180)
    end = json.loads(ended.output("exit.json"))
    assert end["reason"].startswith("agent: frozen-1.bin was changed")


def test_without_internet_and_without_a_dataset_it_says_what_to_turn_on(
    kaggle: Kaggle, client: Plain, locked: Locked, tmp_path: Path
) -> None:
    session, place = push(client, tmp_path, wish(locked), enableInternet=False)
    kaggle.wait("COMPLETE", session, timeout_s=180)
    end = json.loads(output(session, place, "exit.json"))
    assert end["state"] == "failed"
    assert end["reason"].startswith("agent: the environment cannot be built: this session has no internet")
    assert "Settings > Turn on internet" in end["reason"]
    assert log_of(printed(session)) == output(session, place, "log.jsonl")
    assert printed(session).endswith("launcher: ended failed 125\n")


def test_kaggles_secrets_reach_the_job_and_nothing_else(
    kaggle: Kaggle, client: Plain, tmp_path: Path
) -> None:
    kaggle.alice.secrets["HF_TOKEN"] = "a-value-of-some-length"
    command = 'test "$(cat $LAUNCHER_SECRETS/HF_TOKEN)" = a-value-of-some-length && echo "have $HF_TOKEN"'
    session, place = push(client, tmp_path, Wish(command, secrets=("HF_TOKEN",)))
    kaggle.wait("COMPLETE", session, timeout_s=120)
    assert json.loads(output(session, place, "exit.json"))["state"] == "succeeded"
    assert "a-value-of-some-length" not in printed(session)
    assert "have ***" in printed(session)


@pytest.mark.parametrize(("wanted", "got"), [("", "none"), ("NvidiaL4", "2 x FAKE Tesla T4")])
def test_a_session_without_the_gpu_that_was_asked_for_is_refused(
    kaggle: Kaggle, client: Plain, tmp_path: Path, wanted: str, got: str
) -> None:
    """Kaggle takes a push for a GPU that the account may not have, and gives another."""
    gpu = Resources(gpu=Gpu(models=("L4",)))
    session, place = push(client, tmp_path, Wish(resources=gpu), machineShape=wanted)
    kaggle.wait("COMPLETE", session, timeout_s=120)
    reason = json.loads(output(session, place, "exit.json"))["reason"]
    assert reason.startswith(
        f"refused: the job asks for a GPU (1 x L4) and this session has {got}; choose one"
    )


def test_a_cancelled_session_keeps_results_and_nothing_else(
    kaggle: Kaggle, client: Plain, tmp_path: Path
) -> None:
    session, place = push(client, tmp_path, Wish("python3 count.py 900 0.05", {"count.py": COUNT}))
    wait_until(lambda: '"step 5' in printed(session) or session.over, 120)
    client.call("CancelKernelSession", kernelSessionId=session.id)
    wait_until(lambda: session.over, 120)
    assert session.outputs is not None
    names = sorted(
        str(path.relative_to(session.outputs / place)) for path in (session.outputs / place).rglob("*")
    )
    assert "exit.json" not in names
    assert "out/checkpoints/step-3.pt" in names
    assert not [
        name for name in names if name.split("/")[0] in ("work", "home", "resume", "bundle.tar", "data")
    ]
    assert output(session, place, "log.jsonl").startswith(log_of(printed(session))[:200])
