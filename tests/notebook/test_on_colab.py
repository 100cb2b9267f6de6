"""Notebooks in the emulated Colab: through its kernel, across a kernel's death, and cell by cell as a person does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.notebook.ipynb import Options, notebook
from launcher.notebook.payload import Payload, Platform, write
from launcher.target import Submission
from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.plain import PlainClient, Runtime
from tests.emulators.kaggle.sessions import wait_until
from tests.notebook.runs import COUNT, Wish, submission

ROOT, RUNS = "/content/launcher", "/content/launcher/runs"
LEAK = "import importlib.util, os; print('leak', importlib.util.find_spec('leaked_from_colab'), sorted(os.environ))"


@pytest.fixture(scope="module")
def colab() -> Iterator[Colab]:
    with Colab() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def runtime(colab: Colab) -> Runtime:
    return PlainClient.of(colab).runtime()


class Sent:
    """A run's payload, packed, on a runtime's disk."""

    def __init__(self, colab: Colab, runtime: Runtime, folder: Path, wish: Wish, way: str = "sent") -> None:
        self.order: Submission = submission(folder, wish)
        self.payload: Payload = write(
            self.order, folder / "payload", Platform("colab", ROOT, RUNS, 43200.0, way)
        )
        name = f"{self.order.segment.run_id}.bin"
        self.packed = self.payload.packed(folder / name)
        self.path = f"/content/{name}"
        data = self.packed.path.read_bytes()
        for number, at in enumerate(range(0, len(data), 100_000), 1):
            last = at + 100_000 >= len(data)
            assert runtime.put_chunk(f"content/{name}", -1 if last else number, data[at : at + 100_000]) < 300
        self.here = colab.disk() / "content/launcher/runs" / self.order.segment.run_id / "0"

    @property
    def job(self) -> str:
        """A cell's first lines, as a program writes them."""
        folder, sha256 = f"{ROOT}/payload/x{self.packed.sha256[:8]}", self.payload.file("payload.json").sha256
        return (
            "import os, sys, tarfile\n"
            f"os.makedirs({folder!r}, exist_ok=True)\n"
            f"tarfile.open({self.path!r}).extractall({folder!r}, filter='data')\n"
            f"sys.path.insert(0, {folder!r} + '/agent.bin')\n"
            "from launcher.agent.notebook import Job\n"
            f"job = Job({folder!r}, sha256={sha256!r})\n"
        )

    def end(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.here / "exit.json").read_bytes())
        return value


def test_a_program_runs_the_job_step_by_step_and_sends_its_secrets(
    colab: Colab, runtime: Runtime, tmp_path: Path
) -> None:
    wish = Wish(f'python3 -c "{LEAK}"; echo "have $HF_TOKEN"', secrets=("HF_TOKEN",))
    sent = Sent(colab, runtime, tmp_path, wish)
    steps = (
        "job.build(); job.restore(); job.take_secrets({'HF_TOKEN': 'a-value-of-some-length'}); job.start()\n"
    )
    cell = runtime.execute(sent.job + steps + "print('code', job.follow())")
    assert cell.error is None, cell.messages
    text = cell.printed()
    assert text.endswith("launcher: ended succeeded 0\ncode 0\n")
    log = "".join(line for line in text.splitlines(keepends=True) if line.startswith('{"v":1,"seq":'))
    assert log.encode() == (sent.here / "log.jsonl").read_bytes()
    assert "leak None" in log
    assert "COLAB" not in log
    assert "UV_SYSTEM_PYTHON" not in log
    assert "have ***" in log
    assert "a-value-of-some-length" not in text


def test_the_job_outlives_its_kernel_and_the_next_one_follows_it(
    colab: Colab, runtime: Runtime, tmp_path: Path
) -> None:
    sent = Sent(colab, runtime, tmp_path, Wish("python3 count.py 900 0.05", {"count.py": COUNT}))
    runtime.execute(sent.job + "job.build(); job.restore(); job.take_secrets({}); job.start()")
    wait_until(lambda: (sent.here / "log.jsonl").exists(), 120)
    assert colab.kill_kernels() >= 1
    grown = (sent.here / "log.jsonl").stat().st_size
    wait_until(lambda: (sent.here / "log.jsonl").stat().st_size > grown, 120)
    cell = runtime.execute(
        sent.job + "job.build(); job.start(); job.stop(1); print('code', job.follow(quiet=True))"
    )
    assert "the job is running already" in cell.printed()
    assert "launcher: ended cancelled 143\ncode 143\n" in cell.printed()
    assert f"launcher:log {(sent.here / 'log.jsonl').stat().st_size}\n" in cell.printed()


def test_a_program_that_forgets_a_secret_is_told_in_one_line(
    colab: Colab, runtime: Runtime, tmp_path: Path
) -> None:
    sent = Sent(colab, runtime, tmp_path, Wish(secrets=("HF_TOKEN",)))
    cell = runtime.execute(sent.job + "job.build(); job.take_secrets({})")
    assert cell.error == "NotebookError"
    assert sent.end()["reason"].startswith("refused: no value for the secret HF_TOKEN")


def test_a_person_uploads_the_payload_and_runs_every_cell(
    colab: Colab, runtime: Runtime, tmp_path: Path
) -> None:
    sent = Sent(colab, runtime, tmp_path, Wish("python3 count.py 3 0", {"count.py": COUNT}), way="colab")
    text = notebook(sent.payload, Options("count", embed=False, packed=sent.packed.name))
    cells = [one for one in json.loads(text)["cells"] if one["cell_type"] == "code"]
    printed = runtime.execute("\n".join("".join(cell["source"]) for cell in cells)).printed()
    assert "step 3\n" in printed
    archive = printed.splitlines()[-1]
    assert archive == f"{RUNS}/{sent.order.segment.run_id}-0.zip"
    found = runtime.read(archive.lstrip("/"), 0, 1 << 20)
    assert (
        hashlib.sha256(found.content).digest()
        == hashlib.sha256((colab.disk() / archive.lstrip("/")).read_bytes()).digest()
    )
