"""Notebooks run by a real kernel on this machine: to the end, again, killed in the middle, edited, and refused."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.agent.segment import alive, processes, record
from launcher.data.source import Source, keep
from launcher.data.take import take
from launcher.job.gpu import Gpu
from launcher.job.spec import Resources
from launcher.notebook.ipynb import Options, notebook
from launcher.notebook.payload import Payload, Platform, write
from launcher.runner.sources import result
from launcher.vault import digest_of
from tests.notebook.runs import COUNT, Ran, Wish, execute, execute_plainly, submission
from tests.servers import interpreter

TOKEN = "a-value-of-some-length"


class Place:
    """A platform's folders on this machine, and one run's segment there."""

    def __init__(self, folder: Path, name: str = "kaggle", **wishes: Any) -> None:
        self.folder = folder
        secrets = wishes.pop("way", "kaggle")
        session_s = wishes.pop("session_s", None)
        wishes.setdefault("command", f"{sys.executable} count.py 5 0.02")
        wishes.setdefault("files", {"count.py": COUNT})
        self.sent = submission(folder, Wish(**wishes))
        self.platform = Platform(name, str(folder / "root"), str(folder / "runs"), session_s, secrets)
        self.payload: Payload = write(self.sent, folder / "payload", self.platform)

    @property
    def segment(self) -> Path:
        return self.folder / "runs" / self.sent.segment.run_id / str(self.sent.segment.number)

    def text(self, **options: Any) -> str:
        return notebook(self.payload, Options("count", **options))

    def run(self, environment: dict[str, str] | None = None, **options: Any) -> Ran:
        """With a real kernel."""
        return execute(self.text(**options), self.segment, environment)

    def run_plainly(self, environment: dict[str, str] | None = None) -> Ran:
        """As a program would, in a plain Python."""
        return execute_plainly(self.text(readable=False), self.segment, environment)

    def agent(self) -> int:
        """The living agent's process."""
        return int((record(str(self.segment), "state.json") or {})["agent_pid"])


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Any]:
    made: list[Place] = []

    def place(name: str = "kaggle", **wishes: Any) -> Place:
        made.append(Place(tmp_path / str(len(made)), name, **wishes))
        return made[-1]

    yield place
    marks = {f"LAUNCHER_RUN={one.sent.segment.run_id}".encode() for one in made}
    for one in made:
        if alive(str(one.segment)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.agent(), signal.SIGKILL)
    for pid in processes():
        try:
            if marks & set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")):
                os.kill(pid, signal.SIGKILL)
        except OSError:
            continue


def until(true: Any, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_program_reads_the_whole_log_from_the_cell(places: Any) -> None:
    place = places(
        secrets=("HF_TOKEN",), values={"HF_TOKEN": TOKEN}, way="file", command="echo $HF_TOKEN; exit 3"
    )
    ran = place.run(readable=False)
    assert not ran.failed, ran.errors
    assert ran.log == (place.segment / "log.jsonl").read_bytes()
    assert ran.printed.endswith("launcher: ended failed 3\n")
    assert '"***\\n"' in ran.printed
    assert TOKEN not in ran.printed
    assert ran.end["exit_code"] == 3


def test_a_person_runs_it_cell_by_cell_and_once_more(places: Any) -> None:
    place = places("colab")
    first = place.run()
    assert not first.failed, first.errors
    assert "step 5\n" in first.printed
    assert "launcher: ended succeeded 0" in first.printed
    assert first.printed.endswith(f"{place.sent.segment.run_id}-0.zip\n")
    log = (place.segment / "log.jsonl").read_bytes()
    again = place.run()
    assert "the job has ended already" in again.printed
    assert "launcher: ended succeeded 0" in again.printed
    assert (place.segment / "log.jsonl").read_bytes() == log


def test_only_results_lie_in_the_segments_folder(places: Any) -> None:
    place = places(command="mkdir -p $HOME/.cache; echo x > $HOME/.cache/y; echo z > left-behind")
    assert not place.run().failed
    files = sorted(path.name for path in place.segment.rglob("*") if path.is_file() and not path.is_symlink())
    known = [
        "agent.err",
        "agent.lock",
        "exit.json",
        "fingerprint.json",
        "log.jsonl",
        "manifest.jsonl",
        "order.json",
    ]
    assert files == [*known, "state.json"]


def test_the_agent_outlives_the_kernel_and_a_new_one_adopts_it(places: Any) -> None:
    place = places(command=f"{sys.executable} count.py 400 0.05")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1] + '/agent.bin')\n"
        "from launcher.agent.notebook import Job\n"
        "job = Job(sys.argv[1]); sys.exit(job.run())"
    )
    started = [sys.executable, "-c", script, str(place.payload.folder)]
    kernel = subprocess.Popen(started, stdout=subprocess.PIPE, start_new_session=True)
    assert kernel.stdout is not None
    until(lambda: b'"step 3' in kernel.stdout.readline())
    os.killpg(kernel.pid, signal.SIGKILL)
    kernel.wait()
    agent = place.agent()
    assert alive(str(place.segment))
    (place.segment / "control" / "stop").write_text(json.dumps({"v": 1, "grace_s": 1, "why": "cancel"}))
    ran = place.run(readable=False)
    assert place.agent() == agent
    assert ran.log == (place.segment / "log.jsonl").read_bytes()  # from its first line on
    assert "launcher: ended cancelled 143" in ran.printed


def test_a_stop_from_the_notebook_ends_the_job(places: Any) -> None:
    place = places(command=f"{sys.executable} count.py 400 0.05")
    text = json.loads(place.text())
    run = next(cell for cell in text["cells"] if cell["id"] == "run")
    run["source"] = [
        "import time; job.start()\n",
        "while 'step 1' not in open(job.folder + '/log.jsonl').read(): time.sleep(0.05)\n",
        "job.stop(1); exit_code = job.follow(readable=True); print('code', exit_code)",
    ]
    ran = execute(json.dumps(text), place.segment)
    assert "launcher: ended cancelled 143\ncode 143\n" in ran.printed


def test_a_checkpoint_and_data_are_restored_and_proven(places: Any, tmp_path: Path) -> None:
    (tmp_path / "step-3.pt").write_text("3")
    known = SimpleNamespace(
        path=tmp_path / "step-3.pt", name="step-3.pt", digest=digest_of(tmp_path / "step-3.pt")
    )
    (tmp_path / "flowers" / "red").mkdir(parents=True)
    (tmp_path / "flowers" / "red" / "rose.txt").write_text("a rose")
    (tmp_path / "one.csv").write_text("a,b\n")
    kept = tmp_path / "kept"
    data = []
    for key, origin in (("one", tmp_path / "one.csv"), ("train", tmp_path / "flowers")):
        files = result(take(origin, kept))
        data.append(Source(key, str(origin), kept, keep(kept, files), len(files), 6))
    command = f"cat $LAUNCHER_DATA/one $LAUNCHER_DATA/train/red/rose.txt; {sys.executable} count.py 5 0"
    place = places(command=command, resume_from=known, data=data, segment=1, first_seq=41)
    ran = place.run_plainly()
    assert not ran.failed, ran.errors
    text = "".join(json.loads(line)["text"] for line in ran.log.splitlines())
    assert "a,b\na rose" in text
    assert "step 4\nstep 5\n" in text
    assert "step 3\n" not in text
    assert json.loads(ran.log.splitlines()[0])["seq"] == 41
    order = json.loads((place.segment / "order.json").read_bytes())
    assert {key: one["files"] for key, one in order["data"].items()} == {"one": 1, "train": 1}
    assert ran.end["state"] == "succeeded"


def test_data_from_the_web_is_fetched_and_proven(places: Any, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with interpreter.serving() as served:  # any file will do
        good = Source("web", f"{served.url}#sha256={served.sha256}", kept)
        ran = places(command="sha256sum $LAUNCHER_DATA/web", data=[good]).run_plainly()
        assert served.sha256 in ran.log.decode()
        assert ran.end["state"] == "succeeded"
        bad = Source("web", f"{served.url}#sha256={'0' * 64}", kept)
        ran = places(command="true", data=[bad]).run_plainly()
        assert ran.end["reason"].startswith("agent: data web: ")
        assert f"has the SHA-256 {served.sha256}" in ran.end["reason"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("agent.bin", "agent.bin was changed"),
        ("payload.json", "payload.json is not the one of this notebook"),
        ("bundle.bin", "bundle.bin was changed"),
        ("checkpoint.bin", "checkpoint.bin was changed"),
    ],
)
def test_an_edited_payload_is_found_by_its_hash_and_nothing_starts(
    places: Any, tmp_path: Path, name: str, line: str
) -> None:
    (tmp_path / "step-3.pt").write_bytes(b"3" * 700)
    known = SimpleNamespace(
        path=tmp_path / "step-3.pt", name="step-3.pt", digest=digest_of(tmp_path / "step-3.pt")
    )
    place = places("colab", resume_from=known)
    text = place.text()
    path = place.payload.file(name).path
    data = bytearray(path.read_bytes())
    at = data.rfind(b"3" * 100) if name == "checkpoint.bin" else len(data) - 3
    data[at] ^= 1
    path.write_bytes(bytes(data))
    ran = execute_plainly(_from_folder(text, place.payload.folder), place.segment)
    assert ran.failed
    assert line in ran.errors
    assert not (place.segment / "manifest.jsonl").exists()


def test_a_missing_file_is_named(places: Any) -> None:
    place = places("colab")
    text = place.text()
    place.payload.file("bundle.bin").path.unlink()
    ran = execute(_from_folder(text, place.payload.folder), place.segment)
    assert "launcher: bundle.bin is missing" in ran.errors
    assert "Traceback" not in ran.errors


def _from_folder(text: str, folder: Path) -> str:
    """The notebook with its files in a folder instead of inside it."""
    value = json.loads(text)
    files = next(cell for cell in value["cells"] if cell["id"] == "files")
    files["source"] = [f"FILES = {str(folder)!r}"]
    return json.dumps(value)


def test_a_missing_secret_starts_nothing_and_can_be_given_later(places: Any) -> None:
    place = places(secrets=("HF_TOKEN",), command="echo started")
    ran = place.run(readable=False)
    reason = "refused: no value for the secret HF_TOKEN: attach it with Add-ons > Secrets"
    assert (ran.end["state"], ran.end["reason"]) == ("failed", reason)
    assert ran.printed.endswith("launcher: ended failed 125\n")
    assert "started" not in ran.printed
    text = json.loads(place.text(readable=False))
    run = next(cell for cell in text["cells"] if cell["id"] == "run")
    run["source"] = [f"job.take_secrets({{'HF_TOKEN': {TOKEN!r}}}); job.start(); job.follow()"]
    assert execute(json.dumps(text), place.segment).end["state"] == "succeeded"


def test_by_hand_a_missing_secret_stops_at_its_cell_in_one_line(places: Any) -> None:
    place = places("colab", secrets=("HF_TOKEN",), way="ask")
    ran = place.run()
    assert ran.failed
    assert "launcher: no value for the secret HF_TOKEN: nothing was typed" in ran.errors
    assert "Traceback" not in ran.errors
    assert ran.end["reason"].startswith("refused: ")


def test_a_session_without_the_gpu_that_is_asked_for_starts_nothing(places: Any) -> None:
    place = places(resources=Resources(gpu=Gpu(models=("T4",))))
    ran = place.run_plainly({"PATH": "/usr/bin:/bin"})
    assert ran.end["reason"].startswith("refused: the job asks for a GPU (1 x T4) and this session has none")
    assert "Settings > Accelerator" in ran.end["reason"]


def test_the_session_ends_in_time_to_save(places: Any) -> None:
    place = places(command=f"{sys.executable} count.py 4000 0.05", session_s=8.0)
    ran = place.run_plainly()
    assert (ran.end["state"], ran.end["reason"]) == ("timed_out", "session")
    assert ran.printed.endswith("launcher: ended timed_out 143\n")


def test_a_full_disk_is_one_line_and_keeps_what_there_is(tmp_path: Path, places: Any) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        place = places(files={"large.bin": "x" * 2_000_000}, command="true")
        told = json.loads(place.payload.file("payload.json").path.read_bytes())
        told["root"] = str(small)
        place.payload.file("payload.json").path.write_text(json.dumps(told))
        text = _from_folder(place.text(readable=False), place.payload.folder).replace(", sha256=PAYLOAD", "")
        ran = execute_plainly(text, place.segment)
        assert ran.end["state"] == "failed"
        assert "No space left on device" in ran.end["reason"] or ran.end["reason"] == "disk-full"
    finally:
        subprocess.run(["umount", small], check=True)
