"""Each job as its users run it: `launcher run jobs/X`, on this machine and on an SSH server, killed and resumed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.laptop import Laptop, records, sha256
from tests.servers.sshd import SSHD

pytestmark = pytest.mark.timeout(900)  # the first environment may have to travel: 3 GB
JOBS = Path(__file__).parents[2] / "jobs"
TARGETS = ("here", "gpu1")
QUICK = {
    "finetune": ("-p", "epochs=2"),
    "validate": (),
    "visualize": ("-p", "layers=2", "-p", "channels=2"),
    "predict": (),
}
LEFT = {
    "finetune": ("model.safetensors", "model_card.md", "report/index.html"),
    "validate": ("report/index.html", "report/report.json"),
    "visualize": ("report/index.html",),
    "predict": ("predictions.csv", "predictions.json"),
}
STEPS = 50  # of the job's own settings: 20 pictures, 4 a step, 10 epochs


@pytest.fixture(scope="module")
def laptop() -> Iterator[Laptop]:
    """With two targets that make the jobs' environment once each: this machine, and a real OpenSSH server."""
    there = {"UV_CACHE_DIR": os.path.expanduser("~/.cache/uv")}  # the packages travel once
    there |= {name: os.environ[name] for name in ("UV_CACHE_DIR", "SSL_CERT_FILE") if name in os.environ}
    variables = " ".join(f"{name}={value}" for name, value in there.items())
    with tempfile.TemporaryDirectory(prefix="launcher-jobs-") as folder:
        made = Laptop(Path(folder) / "laptop")
        with SSHD(variables=variables) as server:
            try:
                made.ok("target", "add", "here", "local", "--docker", "never")
                address = f"ssh://{server.user}@{server.host}:{server.port}"
                key = ("--host-key", server.fingerprint(), "--key", str(server.key_path))
                made.ok("target", "add", "gpu1", address, *key, "--docker", "never")
                yield made
            finally:
                made.launcher("release", "--all", "--force")
                made.close()


def run(laptop: Laptop, job: str, target: str, *more: str) -> Path:
    """The run's home folder."""
    done = laptop.ok("run", str(JOBS / job), "--on", target, *QUICK[job], *more, timeout=600)
    assert "Traceback" not in done.out + done.err
    return Path(laptop.status()["out"])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("job", sorted(QUICK))
def test_a_job_runs_as_it_stands_and_its_results_come_home(laptop: Laptop, job: str, target: str) -> None:
    home = run(laptop, job, target)
    assert [name for name in LEFT[job] if not (home / name).is_file()] == []


def test_all_jobs_share_one_environment(laptop: Laptop) -> None:
    for name in ("requirements.in", "requirements.lock"):
        assert len({(JOBS / job / name).read_bytes() for job in QUICK}) == 1
    run(laptop, "predict", "here")
    assert len([e for e in (laptop.folder / ".launcher/envs").iterdir() if e.is_dir()]) == 1


def test_own_pictures_are_validated_learnt_and_predicted_on_a_server(laptop: Laptop) -> None:
    """Stripes across or down; the model that came home says which, of pictures that it has never seen."""
    pictures, unseen = laptop.work / "my pictures ü", laptop.work / "new"
    draw = random.Random(0)
    for kind in ("across", "down"):
        for i in range(12):
            folder = pictures / kind if i < 10 else unseen / kind
            folder.mkdir(parents=True, exist_ok=True)
            stripes = draw.randbytes(16)
            down = bytes(stripes[x // 4] for y in range(64) for x in range(64))
            across = bytes(stripes[y // 4] for y in range(64) for x in range(64))
            pixels = down if kind == "down" else across
            (folder / f"{kind} '{i}'.pgm").write_bytes(b"P5 64 64 255\n" + pixels)

    run(laptop, "validate", "gpu1", "--data", f"pictures={pictures}")
    model = run(laptop, "finetune", "gpu1", "--data", f"train={pictures}", "-p", "test_share=0.5")
    run(laptop, "visualize", "gpu1", "--data", f"model={model}", "--data", f"pictures={pictures}")
    home = run(laptop, "predict", "here", "--data", f"model={model}", "--data", f"pictures={unseen}")

    table = json.dumps(json.loads((home / "predictions.json").read_text()))
    assert all(f"{kind} '{i}'.pgm" in table for kind in ("across", "down") for i in (10, 11))
    data = json.loads((model / "capsule.json").read_text())["data"]["train"]
    assert (data["files"], len(data["digest"])) == (20, 64)


def test_killed_at_five_random_steps_and_resumed_it_ends_with_the_undisturbed_weights(laptop: Laptop) -> None:
    often = ("--", "--every=0.01")  # a checkpoint after each step
    undisturbed = laptop.ok("run", str(JOBS / "finetune"), "--on", "here", *often, timeout=600)
    expected = sha256(Path(laptop.status()["out"]) / "model.safetensors")
    assert expected in undisturbed.out

    steps = sorted(random.sample(range(1, STEPS - 1), 5))
    laptop.ok("run", str(JOBS / "finetune"), "--on", "here", "-d", *often, timeout=600)
    for number, step in enumerate(steps):
        folder = laptop.folder / ".launcher/runs" / laptop.status()["id"] / str(number)
        laptop.wait_for(lambda seg=folder, n=step: newest_step(seg) >= n, f"step {step} of {steps}")
        os.kill(json.loads((folder / "state.json").read_text())["pid"], signal.SIGKILL)
        assert laptop.launcher("attach", "last").code == 128 + signal.SIGKILL, steps
        laptop.ok("resume", "last", "-d")
    done = laptop.ok("attach", "last")

    home = Path(laptop.status()["out"])
    assert expected in done.out, steps
    assert sha256(home / "model.safetensors") == expected, steps
    assert len(laptop.status()["segments"]) == 6
    text = "".join(event["text"] for event in records(home / "log.jsonl"))
    went_on = [
        int(n) for n in re.findall(r"goes on after step (\d+) of", text)
    ]  # a fresh start ends the same
    assert len(went_on) == 5, steps
    assert went_on == sorted(went_on), steps
    assert went_on[-1] > steps[0], (went_on, steps)


def newest_step(segment: Path) -> int:
    """The last step whose metrics are written."""
    path = segment / "out/metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith(b"\n")), default=-1)
