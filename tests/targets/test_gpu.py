"""Jobs that ask for a GPU. The GPU is FAKE: programs that answer like NVIDIA's stand on a server without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.laptop import Laptop
from tests.servers.fake_gpu import FakeGPU
from tests.servers.gpu_server import GPUServer
from tests.targets.conftest import add_target

FORMS = {"docker": "always", "plain": "never"}
SHOW = """
import json, os
names = ("NVIDIA_VISIBLE_DEVICES", "LAUNCHER_GPUS")
print(json.dumps({name: os.environ.get(name) for name in names}))
"""
GPU = FakeGPU(name="FAKE GeForce RTX 4090", driver="580.65.06", cuda="13.0", memory_mb=24564)
OLD = FakeGPU(driver="550.54.15", cuda="12.4", compute_cap="8.0")
HASH = "--hash=sha256:" + "a" * 64  # no such file: nothing may be installed before the refusal
LOCK = f"""# launcher-lock: 1
# python: cpython 3.11.7
# torch: auto
nvidia-cuda-runtime==13.0.48 {HASH}
torch==2.14.1 {HASH}
"""


@pytest.fixture(scope="module")
def gpu_server(base_image: str) -> Iterator[GPUServer]:
    with GPUServer() as server:
        server.load_image(base_image)
        server.fake_gpu(GPU)
        yield server


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def on_gpu(laptop: Laptop, gpu_server: GPUServer, form: str) -> Iterator[Laptop]:
    """A laptop whose target gpu1 is the server with the fake GPU."""
    add_target(laptop, gpu_server, docker=FORMS[form])
    yield laptop
    laptop.launcher("release", "--all", "--force")


def gpu_job(laptop: Laptop, name: str, **resources: Any) -> Path:
    return laptop.job(name, SHOW, resources={"gpu": "16GB+", **resources})


def sent(server: GPUServer, name: str) -> str:
    """What of runs of that name is on the server."""
    return server.run(f"find /home/trainer/.launcher/runs -maxdepth 1 -name '{name}-*' 2>/dev/null || true")


def test_a_server_without_a_gpu_is_refused_before_anything_is_sent(
    laptop: Laptop, shared_gpu_server: GPUServer, form: str
) -> None:
    add_target(laptop, shared_gpu_server, docker=FORMS[form])

    done = laptop.launcher("run", str(gpu_job(laptop, f"none-{form}")), "--on", "gpu1")

    assert done.code == 126
    assert "the job asks for 1 GPU(s) and there is no GPU" in done.err
    assert sent(shared_gpu_server, f"none-{form}") == ""
    assert laptop.ok("--json", "ps", "-a").json["runs"] == []


def test_more_or_larger_gpus_than_there_are_is_refused(
    on_gpu: Laptop, gpu_server: GPUServer, form: str
) -> None:
    for name, wanted in (("two", {"count": 2}), ("large", {"gpu": "80GB+"}), ("other", {"gpu": "H100"})):
        done = on_gpu.launcher("run", str(gpu_job(on_gpu, f"{name}-{form}", **wanted)), "--on", "gpu1")

        assert done.code == 126, name
        assert "1 x FAKE GeForce RTX 4090" in done.err
        assert sent(gpu_server, f"{name}-{form}") == ""


def test_a_job_gets_the_gpu_it_asks_for_and_the_record_tells_which(
    on_gpu: Laptop, gpu_server: GPUServer, form: str
) -> None:
    done = on_gpu.ok("run", str(gpu_job(on_gpu, "gets")), "--on", "gpu1")

    seen = json.loads(done.out)
    assert seen["LAUNCHER_GPUS"] == "1"
    shown = on_gpu.segment()["fingerprint"]["shown"]
    assert shown["driver"] == GPU.driver
    assert [(gpu["name"], gpu["memory_mb"]) for gpu in shown["gpus"]] == [(GPU.name, GPU.memory_mb)]
    assert on_gpu.segment()["machine"]["driver_cuda"] == GPU.cuda
    if form == "docker":
        wanted = json.loads(gpu_server.run(f"docker inspect {on_gpu.status()['id']}-0"))[0]
        (request,) = wanted["HostConfig"]["DeviceRequests"]
        assert (request["Count"], request["Capabilities"]) == (1, [["gpu", "compute", "utility"]])
        assert seen["NVIDIA_VISIBLE_DEVICES"] == "0"


def test_a_job_that_asks_for_none_sees_none(on_gpu: Laptop, gpu_server: GPUServer, form: str) -> None:
    done = on_gpu.ok("run", str(on_gpu.job("sees-none", SHOW)), "--on", "gpu1")

    seen = json.loads(done.out)
    assert seen["LAUNCHER_GPUS"] == "0"
    if form == "docker":
        assert seen["NVIDIA_VISIBLE_DEVICES"] == "void"
        wanted = json.loads(gpu_server.run(f"docker inspect {on_gpu.status()['id']}-0"))[0]
        assert not wanted["HostConfig"]["DeviceRequests"]


def test_a_torch_that_the_driver_cannot_run_is_refused_with_the_one_that_it_can(
    on_gpu: Laptop, gpu_server: GPUServer, form: str
) -> None:
    job = gpu_job(on_gpu, f"torch-{form}")
    spec = json.loads((job / "job.yaml").read_text())
    spec["environment"]["requirements"] = "requirements.lock"
    (job / "job.yaml").write_text(json.dumps(spec))
    (job / "requirements.lock").write_text(LOCK)
    gpu_server.fake_gpu(OLD)
    try:
        done = on_gpu.launcher("run", str(job), "--on", "gpu1")
        planned = on_gpu.ok("--json", "plan", str(job), "--on", "gpu1").json["targets"][0]
    finally:
        gpu_server.fake_gpu(GPU)

    assert done.code == 126
    assert "torch 2.14.1 of the lock needs CUDA 13.0, the driver there has 12.4" in done.err
    assert "torch: cu128" in done.err
    assert sent(gpu_server, f"torch-{form}") == ""
    assert (planned["fits"], "torch: cu128" in planned["why_not"]) == (False, True)


def test_an_engine_that_cannot_hand_over_gpus_is_refused(laptop: Laptop, gpu_server: GPUServer) -> None:
    add_target(laptop, gpu_server, docker="always")
    hook = "/usr/local/bin/nvidia-container-runtime-hook"
    gpu_server.run(f"mv {hook} {hook}.off")
    try:
        done = laptop.launcher("run", str(gpu_job(laptop, "no-runtime")), "--on", "gpu1")
        found = laptop.launcher("check", "gpu1")
    finally:
        gpu_server.run(f"mv {hook}.off {hook}")

    assert done.code == 126
    assert "no NVIDIA runtime" in done.err
    assert found.code == 1
    assert "nvidia-container-toolkit" in found.out + found.err
