"""What a session of the emulated Kaggle sees, and what it leaves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.machine import TRAP
from tests.emulators.kaggle.plain import Plain, notebook
from tests.emulators.kaggle.processes import descendants
from tests.emulators.kaggle.sessions import Session, wait_until
from tests.emulators.kaggle.settings import Settings

LOOK = """
import importlib.util, json, os, subprocess, sys
smi = subprocess.run("nvidia-smi -L", shell=True, capture_output=True, text=True).stdout
seen = {"environ": dict(os.environ), "cwd": os.getcwd(), "gpus": smi.splitlines(), "root": os.listdir("/"),
        "python": list(sys.version_info[:2]), "trap": importlib.util.find_spec("TRAP") is not None}
open("seen.json", "w").write(json.dumps(seen))
""".replace("TRAP", TRAP)
WAIT_FOR_EVER = """
import os, time
print("session", os.environ["KAGGLE_CONTAINER_NAME"], flush=True)
open("checkpoint.bin", "w").write("step 7")
time.sleep(3600)
"""


@pytest.fixture
def kaggle() -> Iterator[Kaggle]:
    with Kaggle() as running:
        yield running


@pytest.fixture
def client(kaggle: Kaggle) -> Plain:
    return Plain(kaggle)


def output(session: Session, name: str) -> str:
    assert session.outputs is not None
    return (session.outputs / name).read_text()


def test_a_session_sees_kaggles_folders_variables_and_traps(kaggle: Kaggle, client: Plain) -> None:
    session = client.push("look-around", LOOK, machineShape="NvidiaTeslaT4")
    kaggle.wait("COMPLETE")
    seen = json.loads(output(session, "seen.json"))
    assert seen["cwd"] == "/kaggle/working"
    assert seen["environ"]["KAGGLE_CONTAINER_NAME"].rsplit("-", 2)[1] == str(session.id)
    assert seen["environ"]["KAGGLE_DOCKER_IMAGE"].startswith("gcr.io/kaggle-gpu-images/python@sha256:")
    assert seen["environ"]["PYTHONUSERBASE"]
    assert seen["trap"] is True
    assert [line.split(" (")[0] for line in seen["gpus"]] == ["GPU 0: FAKE Tesla T4", "GPU 1: FAKE Tesla T4"]
    assert not {"home", "mnt", "srv"} & set(seen["root"])


def test_inputs_are_read_only_and_two_sessions_live_side_by_side(kaggle: Kaggle, client: Plain) -> None:
    client.dataset("flowers-data", {"rose.txt": b"red"})
    code = """
import errno, os, time
try: open("/kaggle/input/flowers-data/new", "w")
except OSError as error: assert error.errno == errno.EROFS
else: raise SystemExit("inputs can be written")
open("mine", "w").write(open("/kaggle/input/flowers-data/rose.txt").read() + "%s")
while not os.path.exists("/kaggle/tmp/go"): time.sleep(0.05)
assert os.listdir() == ["mine"]
"""
    both = [
        client.push(f"side-by-side-{n}", code % n, datasetDataSources=["alice/flowers-data"]) for n in (1, 2)
    ]
    roots = [one.ways.folder / "root/kaggle" for one in both]
    wait_until(lambda: all((root / "working/mine").exists() for root in roots))
    for root in roots:
        (root / "tmp/go").touch()
    for one in both:
        kaggle.wait("COMPLETE", one)
    assert [output(one, "mine") for one in both] == ["red1", "red2"]


def test_without_internet_a_session_has_its_own_loopback_only(kaggle: Kaggle, client: Plain) -> None:
    code = """
import socket
here = socket.create_server(("127.0.0.1", 0))
socket.create_connection(here.getsockname(), 5)
try: socket.create_connection(("127.0.0.1", PORT), 5)
except OSError as error: print(type(error).__name__)
""".replace("PORT", kaggle.url.rpartition(":")[2])
    session = client.push("no-internet", code, enableInternet=False)
    kaggle.wait("COMPLETE")
    assert "ConnectionRefusedError" in session.log.array()


def test_a_secret_is_read_in_the_session_by_its_label(kaggle: Kaggle, client: Plain) -> None:
    kaggle.alice.secrets["HF_TOKEN"] = "hf_secret"
    code = """
from kaggle_secrets import BackendError, UserSecretsClient
assert UserSecretsClient().get_secret("HF_TOKEN") == "hf_secret"
try: UserSecretsClient().get_secret("OTHER")
except BackendError: print("no such secret")
"""
    session = client.push("read-secrets", code)
    kaggle.wait("COMPLETE")
    assert "no such secret" in session.log.array()


def test_a_sessions_own_token_may_look_but_not_create(kaggle: Kaggle, client: Plain) -> None:
    session = client.push("own-token", WAIT_FOR_EVER)
    wait_until(lambda: "session" in session.log.array())
    token = (session.ways.folder / "root/kaggle/tmp/.api-token").read_text()
    inside = Plain(kaggle, token)
    assert inside.status("own-token")["status"] == "RUNNING"
    assert inside.ask("StartBlobUpload", type="DATASET", name="a", contentLength=1).status_code == 403


def test_a_session_shows_what_it_was_told_to_show_and_the_image_that_was_pinned(tmp_path: Path) -> None:
    (tmp_path / "wheel").write_text("w")
    shown = Settings(visible=(tmp_path,), environment={"WHEELS": str(tmp_path)})
    with Kaggle(shown) as kaggle:
        image = "gcr.io/kaggle-images/python@sha256:" + "0" * 64
        code = "import os\nprint(os.listdir(os.environ['WHEELS']), os.environ['KAGGLE_DOCKER_IMAGE'])"
        session = Plain(kaggle).push("pinned-image", code, dockerImage=image)
        kaggle.wait("COMPLETE")
        assert f"['wheel'] {image}" in session.log.array()


def test_the_limit_ends_a_session_saves_its_files_and_takes_its_time_from_the_quota() -> None:
    with Kaggle(Settings(time_scale=3600)) as kaggle:
        client = Plain(kaggle)
        session = client.push("over-time", WAIT_FOR_EVER, enableGpu=True, sessionTimeoutSeconds=7200)
        kaggle.wait("ERROR")
        assert "exceeded the max allowed execution duration" in client.status("over-time")["failureMessage"]
        assert output(session, "checkpoint.bin") == "step 7"
        assert kaggle.alice.gpu_spent_s >= 7200
        used = client.call("GetAcceleratorQuotaStatistics")["gpuQuota"]["timeUsed"]
        assert float(used.removesuffix("s")) == pytest.approx(kaggle.alice.gpu_spent_s, abs=1)


def test_a_session_is_cancelled_by_the_id_in_its_containers_name_and_only_by_its_owner(
    kaggle: Kaggle, client: Plain
) -> None:
    session = client.push("cancel-me", WAIT_FOR_EVER)
    wait_until(lambda: "session" in session.log.array())
    name = re.search(r"session (\S+?)\\n", session.log.array())
    assert name is not None
    number = int(name[1].rsplit("-", 2)[1])
    stranger = Plain(kaggle, kaggle.account("bob").token())
    assert stranger.ask("CancelKernelSession", kernelSessionId=number).status_code == 403
    assert client.call("CancelKernelSession", kernelSessionId=number) == {}
    kaggle.wait("CANCEL_ACKNOWLEDGED")
    assert output(session, "checkpoint.bin") == "step 7"
    assert "errorMessage" in client.call("CancelKernelSession", kernelSessionId=number)


def test_a_notebook_that_fails_shows_its_traceback_and_keeps_its_files(kaggle: Kaggle, client: Plain) -> None:
    text = notebook("open('kept', 'w').write('x')", "raise ValueError('no flowers')", "print('never')")
    session = client.push("fails-late", text, kernelType="notebook")
    kaggle.wait("ERROR")
    assert "no flowers" in session.log.array()
    assert "never" not in session.log.array()
    assert output(session, "kept") == "x"


def test_a_killed_kernel_is_an_error_that_says_so(kaggle: Kaggle, client: Plain) -> None:
    text = notebook("open('kept', 'w').write('x')\nprint('alive')\nimport time\ntime.sleep(3600)")
    session = client.push("gets-killed", text, kernelType="notebook")
    wait_until(lambda: "alive" in session.log.array())
    session.kill_kernel()
    kaggle.wait("ERROR")
    assert "memory" in session.failure
    assert output(session, "kept") == "x"


def test_outputs_come_at_the_end_only_without_links_empty_folders_and_mode_bits(
    kaggle: Kaggle, client: Plain
) -> None:
    code = """
import os, time
os.makedirs("empty"); os.makedirs("a/b"); os.symlink("/etc/passwd", "link")
open("a/b/run.sh", "w").write("#!/bin/sh"); os.chmod("a/b/run.sh", 0o755)
print("written", flush=True)
while not os.path.exists("/kaggle/tmp/go"): time.sleep(0.05)
"""
    session = client.push("leaves-files", code)
    wait_until(lambda: "written" in session.log.array())
    assert client.outputs("leaves-files")["files"] == []
    (session.ways.folder / "root/kaggle/tmp/go").touch()
    kaggle.wait("COMPLETE")
    assert [file["fileName"] for file in client.outputs("leaves-files")["files"]] == ["a/b/run.sh"]
    assert session.outputs is not None
    assert not (session.outputs / "a/b/run.sh").stat().st_mode & 0o111
    assert not (session.outputs / "empty").exists()


def test_a_kernel_reads_the_outputs_of_another_one(kaggle: Kaggle, client: Plain) -> None:
    client.push("train-part-a", "open('step.txt', 'w').write('8')")
    kaggle.wait("COMPLETE")
    code = "print('from', open('/kaggle/input/train-part-a/step.txt').read())"
    session = client.push("train-part-b", code, kernelDataSources=["alice/train-part-a"])
    kaggle.wait("COMPLETE")
    assert "from 8" in session.log.array()


def test_outputs_come_in_pages_and_ranges_from_signed_urls_that_end(kaggle: Kaggle, client: Plain) -> None:
    client.push("many-files", "for n in range(7): open(f'{n}.bin', 'w').write('0123456789')")
    kaggle.wait("COMPLETE")
    first = client.outputs("many-files", pageSize=5)
    rest = client.outputs("many-files", pageSize=5, pageToken=first["nextPageToken"])
    assert [len(first["files"]), len(rest["files"]), rest["nextPageToken"]] == [5, 2, ""]
    url = rest["files"][0]["url"]
    whole = requests.get(url, timeout=10)
    assert (whole.status_code, whole.text) == (200, "0123456789")
    ranged = {"Range": "bytes=4-", "If-Range": whole.headers["ETag"]}
    part = requests.get(url, headers=ranged, timeout=10)
    assert (part.status_code, part.text, part.headers["Content-Range"]) == (206, "456789", "bytes 4-9/10")
    changed = requests.get(url, headers={**ranged, "If-Range": '"other"'}, timeout=10)
    assert (changed.status_code, changed.text) == (200, "0123456789")
    assert requests.get(url, headers={"Range": "bytes=10-"}, timeout=10).status_code == 416
    kaggle.settings.signed_url_wall_s = -1.0
    late = client.outputs("many-files")["files"][0]["url"]
    assert requests.get(late, timeout=10).status_code == 403


def test_nothing_is_left_when_a_test_fails_in_the_middle() -> None:
    living: list[int] = []

    def fails() -> None:
        with Kaggle() as kaggle:
            folders.append(kaggle.folder)
            session = Plain(kaggle).push("left-alone", WAIT_FOR_EVER)
            wait_until(lambda: "session" in session.log.array())
            assert session.process is not None
            living.extend(pid for pid, _ in descendants(session.process.pid))
            raise ZeroDivisionError

    folders: list[Path] = []
    with pytest.raises(ZeroDivisionError):
        fails()
    assert len(living) >= 3  # the first process of the namespace, the executor, the script
    assert not [pid for pid in living if Path(f"/proc/{pid}").exists()]
    assert not folders[0].exists()
    assert str(folders[0]) not in Path("/proc/mounts").read_text()
