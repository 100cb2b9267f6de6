"""One environment from a lock, planned: keys, layers, Dockerfile and what is refused."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.environment import VenvPaths, context_files, dockerfile, image_tag, plan, venv_script
from launcher.errors import SpecError
from launcher.job.spec import Environment
from launcher.lock import Lock, parse_lock
from tests.servers import interpreter

ARCH = os.uname().machine
ENVIRONMENT = Environment(python=interpreter.MINOR)
A, B = "a" * 64, "b" * 64


def lock_of(*pins: str, python: str = interpreter.VERSION, more: str = "") -> Lock:
    head = f"# launcher-lock: 1\n# python: cpython {python}\n{more}"
    return parse_lock((head + "".join(f"{pin} --hash=sha256:{A}\n" for pin in pins)).encode())


def test_the_key_is_over_what_is_installed_and_not_over_how_it_is_written() -> None:
    first = plan(ENVIRONMENT, lock_of("six==1.17.0", "click==8.1.8"), ARCH)
    again = plan(ENVIRONMENT, lock_of("click == 8.1.8 ; python_version > '3'", "Six==1.17.0"), ARCH)
    assert first.key == again.key
    keys = {
        plan(ENVIRONMENT, lock_of("six==1.16.0", "click==8.1.8"), ARCH).key,
        plan(ENVIRONMENT, lock_of("six==1.17.0", "click==8.1.8"), "riscv64").key,
        plan(Environment(), lock_of("six==1.17.0", "click==8.1.8", python="3.13.1"), ARCH).key,
        first.key,
    }
    assert len(keys) == 4


def test_a_small_package_leaves_the_heavy_layer_as_it_is() -> None:
    before = plan(ENVIRONMENT, lock_of("torch==2.9.0", "nvidia-cublas==13.1", "six==1.17.0"), ARCH)
    after = plan(
        ENVIRONMENT, lock_of("torch==2.9.0", "nvidia-cublas==13.1", "six==1.17.0", "click==8.1.8"), ARCH
    )
    assert before.heavy_key == after.heavy_key
    assert before.files["heavy.txt"] == after.files["heavy.txt"]
    assert before.key != after.key
    above = dockerfile(before, "base", "uv:1").split("COPY rest.txt")[0]
    assert above == dockerfile(after, "base", "uv:1").split("COPY rest.txt")[0]


def test_heavy_is_what_is_known_to_be_and_what_the_lock_has_measured() -> None:
    lock = lock_of(
        "torch==2.9.0",
        "triton==3.5",
        "nvidia-nccl-cu13==2.2",
        "weights==1",
        "six==1.17.0",
        more="# heavy: weights\n",
    )
    made = plan(ENVIRONMENT, lock, ARCH)
    names = [line.split("==")[0] for line in made.files["heavy.txt"].splitlines() if "==" in line]
    assert names == ["nvidia-nccl-cu13", "torch", "triton", "weights"]
    assert made.locked == lock.locked_for(ARCH)


def test_without_a_lock_there_is_nothing_to_install() -> None:
    assert plan(Environment(), None, ARCH).trivial
    made = plan(Environment(python="3.12"), None, ARCH)
    assert (made.trivial, made.files, made.locked, made.python) == (False, {}, None, "3.12")


def test_a_lock_for_another_python_than_the_spec_is_refused() -> None:
    with pytest.raises(SpecError, match=r"the lock is for Python 3\.12\.16, the spec wants 3\.1") as caught:
        plan(Environment(python="3.1"), lock_of("six==1.17.0", python="3.12.16"), ARCH)
    assert "launcher lock" in caught.value.hint


@pytest.mark.parametrize(
    "url", ["https://user:secret@example.org/simple", "https://token@example.org/simple"]
)
def test_an_index_with_a_password_is_refused(url: str) -> None:
    with pytest.raises(SpecError, match="user or password") as caught:
        plan(Environment(index=(url,)), lock_of("six==1.17.0"), ARCH)
    assert "secret" not in caught.value.message + caught.value.hint
    with pytest.raises(SpecError, match="user or password"):
        plan(Environment(), lock_of("six==1.17.0", more=f"--index-url {url}\n"), ARCH)


def test_other_indexes_and_torch_builds_reach_uv() -> None:
    lock = lock_of("torch==2.9.0+cu128", more="# torch: cu128\n--find-links https://example.org/wheels\n")
    made = plan(Environment(index=("https://example.org/simple",)), lock, ARCH)
    expected = ["--extra-index-url https://example.org/simple", "--find-links https://example.org/wheels"]
    assert made.files["heavy.txt"].splitlines()[:2] == expected
    assert "export UV_TORCH_BACKEND=cu128" in venv_script(made, VenvPaths("/r", "/uv"))
    assert "export UV_TORCH_BACKEND=cu128" in dockerfile(made, "base", "uv:1")


def test_the_image_is_named_by_what_is_in_it() -> None:
    made = plan(ENVIRONMENT, lock_of("six==1.17.0"), ARCH)
    tag = image_tag(made, "sha256:1", ("git",))
    assert tag.startswith("launcher/env:")
    assert len(tag) == len("launcher/env:") + 16
    others = {
        image_tag(made, "sha256:2", ("git",)),
        image_tag(made, "sha256:1"),
        image_tag(replace(made, key="x"), "sha256:1"),
    }
    assert tag not in others
    assert len(others) == 3


def test_the_dockerfile_goes_from_lasting_layers_to_quick_ones() -> None:
    lock = lock_of(
        "torch==2.9.0", "six==1.17.0", more=f"# interpreter: linux {ARCH} https://x/p.tar.gz sha256:{B}\n"
    )
    made = plan(ENVIRONMENT, lock, ARCH)
    text = dockerfile(made, "debian:12", "uv:1", ("git", "libgl1"))
    marks = [
        "FROM debian:12",
        "COPY --from=uv:1 /uv",
        "COPY environment.sh python.json",
        "build_interpreter",
        "COPY heavy.txt",
    ]
    marks += [
        "build_packages heavy.txt",
        "apt-get install",
        "COPY rest.txt",
        "build_packages rest.txt",
        "build_done",
    ]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "git libgl1" in text
    files = context_files(made, "debian:12", "uv:1")
    assert sorted(files) == [
        "Dockerfile",
        "environment.sh",
        "heavy.txt",
        "python.json",
        "python.sha256",
        "rest.txt",
    ]


def test_the_shell_functions_are_posix(tmp_path: Path) -> None:
    script = venv_script(plan(ENVIRONMENT, lock_of("six==1.17.0"), ARCH), VenvPaths("/a b", "/u'v"))
    subprocess.run(["sh", "-n"], input=script.encode(), check=True)
