"""A base that cannot be had is no obstacle where Docker is a choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.laptop import Laptop

NOWHERE = "127.0.0.1:9/no-such/base:1"  # a registry that nobody serves


@pytest.fixture
def job(laptop: Laptop, docker_socket: str) -> Path:
    return laptop.job("base", "print('ran')", environment={"python": "3.11", "base": NOWHERE})


def test_docker_auto_goes_on_without_docker_and_says_so(laptop: Laptop, job: Path) -> None:
    done = laptop.ok("run", str(job), "--on", "local")

    assert "ran\n" in done.out
    assert "going on without Docker" in done.err
    assert laptop.status()["segments"][0]["form"] == "plain"
    laptop.ok("release", "last")


def test_docker_always_does_not(laptop: Laptop, job: Path) -> None:
    laptop.ok("target", "add", "here", "local", "--docker", "always")

    done = laptop.launcher("run", str(job), "--on", "here")

    assert done.code == 125
    assert f"has no image {NOWHERE} and cannot pull it" in done.err
    laptop.ok("release", "last")
