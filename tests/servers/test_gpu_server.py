"""The test bed itself: what it says must be true, or the other tests prove nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers import base_image as base
from tests.servers.fake_gpu import FakeGPU
from tests.servers.gpu_server import GPUServer
from tests.servers.programs import ProgramFailed


def test_both_formats_of_apt_sources_name_the_mirror() -> None:
    one_line = "# comment\ndeb [signed-by=/x.gpg] http://mirror.example/debian bookworm main contrib\n"
    blocks = "Types: deb deb-src\nURIs: http://mirror.example/debian\nSuites: sid bookworm\n"
    blocks += "Components: main contrib\n"
    expected = base.Mirror("http://mirror.example/debian", "bookworm", "main,contrib")
    assert base.parse_sources(one_line, "bookworm") == expected
    assert base.parse_sources(blocks, "bookworm") == expected
    assert base.parse_sources(blocks, "trixie") is None


def test_a_user_without_root_runs_a_container_over_real_ssh(
    shared_gpu_server: GPUServer, base_image: str
) -> None:
    command = f"id -un; docker run --rm {base_image} python3 -c 'print(6 * 7)'"
    assert shared_gpu_server.ssh(command).split() == ["trainer", "42"]


def test_a_cut_network_is_silent_and_comes_back(shared_gpu_server: GPUServer) -> None:
    shared_gpu_server.cut_network()
    try:
        with pytest.raises(ProgramFailed, match="timed out"):
            shared_gpu_server.ssh("true")
    finally:
        shared_gpu_server.restore()
    assert shared_gpu_server.ssh("echo back") == "back\n"


def test_a_refusing_network_refuses(shared_gpu_server: GPUServer) -> None:
    shared_gpu_server.cut_network("reject")
    try:
        with pytest.raises(ProgramFailed, match="refused"):
            shared_gpu_server.ssh("true")
    finally:
        shared_gpu_server.restore()


def test_a_reboot_ends_processes_and_keeps_the_disk(new_gpu_server: Callable[..., GPUServer]) -> None:
    server = new_gpu_server()
    server.run("echo kept > /home/trainer/file; echo gone > /dev/shm/file; sleep 1000 >/dev/null 2>&1 &")
    server.reboot()
    assert server.run("cat /home/trainer/file; ls /dev/shm; pgrep sleep -a || true").split()[0] == "kept"
    assert "1000" not in server.run("pgrep -a sleep || true")
    assert "file" not in server.run("ls /dev/shm")


def test_a_stopped_engine_answers_again_when_started(new_gpu_server: Callable[..., GPUServer]) -> None:
    server = new_gpu_server()
    server.stop_docker()
    assert "Server Version" not in server.run("docker info 2>&1 || true")
    server.start_docker()
    assert "Server Version" in server.run("docker info")


def test_the_fake_gpu_is_seen_beside_and_inside_containers(new_gpu_server: Callable[..., GPUServer]) -> None:
    server = new_gpu_server()
    server.fake_gpu(FakeGPU(name="FAKE A100", memory_mb=40960))
    server.load_image()
    query = "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits"
    assert server.ssh(query) == "FAKE A100, 40960\n"
    assert server.ssh(f"docker run --rm --gpus all {base.STAND_IN_FOR} {query}") == "FAKE A100, 40960\n"
