"""The test bed as pytest fixtures: each part starts when a test first asks for it and is gone at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.servers import base_image as base
from tests.servers import engine, gpu_server
from tests.servers.gpu_server import GPUServer


@pytest.fixture(scope="session")
def docker_socket() -> Iterator[str]:
    """The path of this machine's engine's socket."""
    with engine.running() as path:
        gpu_server.sweep()
        yield path


@pytest.fixture(scope="session")
def base_image(docker_socket: str) -> Iterator[str]:
    """The name of an image with Python 3 in this machine's engine: `ubuntu:22.04`, or what stands for it."""
    with base.named_like_the_default() as name:
        yield name


@pytest.fixture(scope="session")
def shared_gpu_server(base_image: str) -> Iterator[GPUServer]:
    """One "GPU server" with the base image in its engine, for all tests that leave it as they found it."""
    with GPUServer() as server:
        server.load_image(base_image)
        yield server


@pytest.fixture
def new_gpu_server(docker_socket: str) -> Iterator[Callable[..., GPUServer]]:
    """`new_gpu_server(**options)`: a server of the test's own (1 s), for those that cut, stop or reboot."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(GPUServer(**options))
