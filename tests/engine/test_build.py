"""Images are built on a real engine, over a channel that is not the SDK's own."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.engine import build as images
from launcher.engine.build import Recipe
from launcher.engine.connection import Engine, connected
from launcher.engine.context import Context
from launcher.engine.names import bases_of
from launcher.errors import RemoteError, Unreachable
from launcher.events import Progress
from tests.engine.conftest import Reach
from tests.servers import registry
from tests.servers.gpu_server import GPUServer
from tests.servers.programs import docker

SECRET = "hf_this-must-not-travel"


class RecordedSocket(socket.socket):
    """A connection to the engine that keeps what was sent through it."""

    def __init__(self, path: str) -> None:
        super().__init__(socket.AF_UNIX)
        self.sent = bytearray()
        self.connect(path)

    def sendall(self, data: Any, *rest: int) -> None:
        self.sent += data
        super().sendall(data, *rest)


class Way:
    """Dials this machine's engine and remembers its connections."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.opened: list[RecordedSocket] = []

    def __call__(self) -> RecordedSocket:
        self.opened.append(RecordedSocket(self.path))
        return self.opened[-1]

    @property
    def sent(self) -> bytes:
        return b"".join(bytes(one.sent) for one in self.opened)


@pytest.fixture
def way(docker_socket: str) -> Way:
    return Way(docker_socket)


@pytest.fixture
def engine(way: Way) -> Iterator[Engine]:
    with connected(way) as engine:
        yield engine


@pytest.fixture
def tag() -> Iterator[str]:
    name = f"launcher-test/built:{uuid.uuid4().hex[:8]}"
    yield name
    if docker("images", "-q", name):
        docker("rmi", "--force", name)


def run(work: Generator[Progress, None, Any]) -> tuple[list[Progress], Any]:
    """All that it said, and what it returned."""
    said = []
    while True:
        try:
            said.append(next(work))
        except StopIteration as end:
            return said, end.value


def recipe(tag: str, base: str, *lines: str, **more: Any) -> Recipe:
    text = "\n".join([f"FROM {base}", *lines]) + "\n"
    return Recipe(Context({"Dockerfile": text.encode(), **more.pop("files", {})}), tag, (base,), **more)


def test_an_image_is_built_and_told_step_by_step(engine: Engine, base_image: str, tag: str) -> None:
    wanted = recipe(
        tag,
        base_image,
        "COPY a/b /c",
        "RUN cat /c",
        files={"a/b": b"hello\n"},
        labels={"launcher.env": "key1"},
    )
    said, (image, base) = run(images.build(engine, wanted))
    assert image == images.find(engine, tag)
    assert base == docker("image", "inspect", "--format", "{{.Id}}", base_image)
    assert engine.inspect_image(image)["Config"]["Labels"]["launcher.env"] == "key1"
    assert next(p.detail for p in said if p.detail.startswith("step")).startswith("step 1/")
    assert "hello" in [p.detail for p in said]


def test_a_line_is_told_whole_however_it_came(engine: Engine, base_image: str, tag: str) -> None:
    wanted = recipe(tag, base_image, "RUN printf one; sleep 0.2; printf ' two\\nthr'; sleep 0.2; echo ee")
    said, _ = run(images.build(engine, wanted))
    assert [p.detail for p in said][-4:-2] == ["one two", "three"]


def test_the_same_recipe_again_is_the_same_image(engine: Engine, base_image: str, tag: str) -> None:
    wanted = recipe(tag, base_image, "COPY x /x", "RUN head -c 8 /dev/urandom > /y", files={"x": b"1"})
    assert run(images.build(engine, wanted))[1] == run(images.build(engine, wanted))[1]


def test_a_compressed_context_builds_the_same(engine: Engine, base_image: str, tag: str) -> None:
    files = {
        "Dockerfile": f"FROM {base_image}\nCOPY big /big\nRUN stat -c %s /big\n".encode(),
        "big": bytes(9 << 20),
    }
    said, _ = run(images.build(engine, Recipe(Context(files, compress=True), tag, (base_image,))))
    assert str(9 << 20) in [p.detail for p in said]


def test_a_jobs_own_dockerfile_sees_the_jobs_files(
    engine: Engine, base_image: str, tag: str, tmp_path: Path
) -> None:
    text = f"FROM {base_image} AS first\nFROM first\nCOPY train.py /train.py\nRUN ls -l / && cat /train.py\n"
    (tmp_path / "train.py").write_text("print('train')\n")
    (tmp_path / "Dockerfile").write_text(text)
    (tmp_path / "environment.json").write_text("{}")
    with tarfile.open(tmp_path / "bundle", "w") as bundle:
        bundle.add(tmp_path / "environment.json", "environment.json")
        bundle.add(tmp_path / "train.py", "files/train.py")
        bundle.add(tmp_path / "Dockerfile", "files/docker/train.Dockerfile")
    context = Context(bundle=tmp_path / "bundle")
    wanted = Recipe(context, tag, bases_of(text), dockerfile="docker/train.Dockerfile")
    said, (_, base) = run(images.build(engine, wanted))
    assert "print('train')" in [p.detail for p in said]
    assert base.startswith("sha256:")


def test_a_failing_step_is_told_with_its_last_lines(engine: Engine, base_image: str, tag: str) -> None:
    wanted = recipe(
        tag, base_image, "RUN echo one", "RUN echo working; (seq 100; echo no such thing) >&2; exit 7"
    )
    with pytest.raises(RemoteError) as caught:
        run(images.build(engine, wanted))
    first, *lines = caught.value.message.splitlines()
    assert first.endswith("failed (exit code 7)")
    assert "RUN echo working" in first
    assert "  no such thing" in lines
    assert "  100" in lines
    assert len(lines) <= images.TAIL_LINES
    assert caught.value.hint


def test_a_dockerfile_that_is_none_is_told(engine: Engine, tag: str) -> None:
    with pytest.raises(RemoteError, match=r"(?i)unknown instruction|parse error"):
        run(images.build(engine, Recipe(Context({"Dockerfile": b"FROM scratch\nNONSENSE\n"}), tag)))


def test_no_credentials_go_into_a_build(
    way: Way, base_image: str, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = base64.b64encode(f"ada:{SECRET}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.example": {"auth": login}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with connected(way) as engine:
        image, _ = run(images.build(engine, recipe(tag, base_image, "RUN env; mount")))[1]
    assert b"POST /v" in way.sent
    for secret in (SECRET.encode(), login.encode(), base64.b64encode(SECRET.encode())):
        assert secret not in way.sent
    assert b"X-Registry" not in way.sent
    assert SECRET not in docker("history", "--no-trunc", image)
    saved = subprocess.run(["docker", "save", image], capture_output=True, check=True).stdout
    assert SECRET.encode() not in saved


def test_an_image_is_built_beside_the_gpu_over_ssh(
    shared_gpu_server: GPUServer, reach: Reach, base_image: str, tag: str
) -> None:
    host = reach(shared_gpu_server)
    wanted = recipe(tag, base_image, "COPY big /big", "RUN sha256sum /big", files={"big": bytes(20 << 20)})
    with connected(lambda: host.dial("/var/run/docker.sock")) as engine:
        said, (image, _) = run(images.build(engine, wanted))
    assert shared_gpu_server.run(f"docker image inspect --format '{{{{.Id}}}}' {tag}").strip() == image
    assert any(p.detail.endswith("  /big") for p in said)
    shared_gpu_server.run(f"docker rmi {tag}")


def test_a_build_whose_connection_breaks_is_unreachable(
    new_gpu_server: Callable[..., GPUServer], reach: Reach, base_image: str, tag: str
) -> None:
    server = new_gpu_server()
    server.load_image(base_image)
    host = reach(server)
    wanted = recipe(tag, base_image, "RUN echo begun; sleep 100")

    def build_and_cut() -> None:
        with connected(lambda: host.dial("/var/run/docker.sock")) as engine:
            for said in images.build(engine, wanted):
                if said.detail == "begun":
                    server.cut_network()

    with pytest.raises(Unreachable):
        build_and_cut()


@pytest.fixture(scope="module")
def registry_address(base_image: str) -> Iterator[str]:
    with registry.running() as address:
        yield address


@pytest.fixture
def pushed(registry_address: str, base_image: str) -> Iterator[str]:
    """The name of an image that the registry has and the engine has not."""
    name = f"{registry_address}/some/base:1"
    docker("tag", base_image, name)
    docker("push", "--quiet", name)
    docker("rmi", name)
    yield name
    for known in docker("images", "--digests", "--format", "{{.Repository}}@{{.Digest}}").splitlines():
        if known.startswith(registry_address) and not known.endswith("<none>"):
            docker("rmi", known)
    with contextlib.suppress(Exception):
        docker("rmi", name)


def test_a_base_that_the_engine_lacks_is_pulled(engine: Engine, pushed: str, tag: str) -> None:
    said, (_, base) = run(images.build(engine, recipe(tag, pushed, "RUN true")))
    assert any(p.detail == f"pulled {pushed}" and p.finished for p in said)
    assert base.startswith("sha256:")
    repository = pushed.rpartition(":")[0]
    assert run(images.have(engine, f"{repository}@{base}", "x86_64"))[1] == base


def test_a_base_that_the_engine_has_is_not_pulled(engine: Engine, base_image: str, way: Way) -> None:
    run(images.have(engine, base_image, "x86_64"))
    assert b"images/create" not in way.sent


def test_a_base_that_nobody_has_is_told(engine: Engine, registry_address: str, tag: str) -> None:
    with pytest.raises(
        RemoteError, match=r"has no image .*/none:1 and cannot pull it: its registry has no such"
    ):
        run(images.build(engine, recipe(tag, f"{registry_address}/none:1")))


def test_a_base_for_another_machine_is_refused(engine: Engine, base_image: str) -> None:
    with pytest.raises(RemoteError, match="for amd64 and the machine is arm64"):
        run(images.have(engine, base_image, "aarch64"))


def test_an_engine_that_does_not_answer_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no answer from Docker"):
        with connected(Way(str(tmp_path / "nobody.sock"))):
            pass


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("FROM a:1\nRUN x", ("a:1",)),
        ("ARG V=1\nFROM --platform=linux/amd64 a AS one\nFROM one\n", ("a",)),
        ("FROM b as two\nFROM \\\n  c:2\nCOPY --from=two / /\n", ("b", "c:2")),
        ("FROM scratch\nFROM $BASE\n# FROM no\n", ()),
    ],
)
def test_the_bases_of_a_dockerfile_are_found(text: str, bases: tuple[str, ...]) -> None:
    assert bases_of(text) == bases
