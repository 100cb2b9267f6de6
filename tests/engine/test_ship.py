"""An image made here arrives at a server that cannot pull, over real SSH."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.engine.build import Recipe, build
from launcher.engine.connection import Engine, connected
from launcher.engine.context import Context
from launcher.engine.ship import Shipment, ship
from launcher.errors import Unreachable
from launcher.events import Progress
from launcher.hosts.steward import Steward
from tests.engine.conftest import Reach
from tests.engine.test_build import Way, run
from tests.servers.gpu_server import GPUServer
from tests.servers.programs import docker

LAYER_BYTES = 5 << 20
ARRIVED_BYTES = 2 << 20
BASE_BYTES = 50 << 20  # at least, compressed


class Counting:
    """A steward that counts the bytes sent, and whose connection may break after so many."""

    def __init__(self, steward: Steward, break_after: int | None = None) -> None:
        self.steward = steward
        self.bytes = 0
        self._left = break_after

    def call(self, op: str, payload: bytes | Iterable[bytes] = b"", **args: Any) -> dict[str, Any]:
        counted = self._counted(payload, args["sha256"]) if op == "put" else payload
        return self.steward.call(op, counted, **args)

    def stream(
        self, op: str, payload: bytes | Iterable[bytes] = b"", **args: Any
    ) -> Generator[Any, None, Any]:
        return self.steward.stream(op, payload, **args)

    def _counted(self, payload: bytes | Iterable[bytes], sha256: str) -> Iterator[bytes]:
        for piece in [payload] if isinstance(payload, bytes) else payload:
            self.bytes += len(piece)
            yield piece
            if self._left is not None and self.bytes >= self._left:
                while self.steward.call("partial", sha256=sha256)["offset"] < ARRIVED_BYTES:
                    time.sleep(0.02)
                self.steward.close()
                raise Unreachable("cut")


@pytest.fixture
def engine(docker_socket: str) -> Iterator[Engine]:
    with connected(Way(docker_socket)) as engine:
        yield engine


@pytest.fixture
def image(engine: Engine, base_image: str) -> Iterator[str]:
    """An image with two fresh layers of LAYER_BYTES on the base."""
    name = f"launcher-test/shipped:{uuid.uuid4().hex[:8]}"
    random = "RUN dd if=/dev/urandom bs=1M count=5 status=none of="
    text = f"FROM {base_image}\nENV FOR={name}\n{random}/random-1\n{random}/random-2\n"
    run(build(engine, Recipe(Context({"Dockerfile": text.encode()}), name, (base_image,))))
    yield name
    docker("rmi", name)


@pytest.fixture
def shipped(shared_gpu_server: GPUServer, image: str) -> Iterator[str]:
    """The image's name; removed from the server afterwards."""
    yield image
    shared_gpu_server.run(f"docker rmi {image} || true")


def total(said: list[Progress]) -> int:
    return max(p.total_bytes or 0 for p in said)


def test_only_the_layers_that_the_server_lacks_travel(
    engine: Engine, shared_gpu_server: GPUServer, reach: Reach, shipped: str, tmp_path: Path
) -> None:
    there = Counting(reach(shared_gpu_server).steward())
    said, arrived = run(ship(engine, there, Shipment(shipped, tmp_path)))
    assert 2 * LAYER_BYTES < there.bytes < 2 * LAYER_BYTES + 100_000
    assert total(said) == there.bytes
    assert arrived == docker("image", "inspect", "--format", "{{.Id}}", shipped)
    sums = f"run --rm {shipped} sha256sum /random-1 /random-2"
    assert shared_gpu_server.run(f"docker {sums}").strip() == docker(*sums.split())
    assert list(tmp_path.iterdir()) == []
    assert shared_gpu_server.ssh("ls .launcher/ships .launcher/blobs").split() == [
        ".launcher/blobs:",
        ".launcher/ships:",
    ]


def test_an_image_that_is_there_is_not_sent_again(
    engine: Engine, shared_gpu_server: GPUServer, reach: Reach, shipped: str, tmp_path: Path
) -> None:
    there = Counting(reach(shared_gpu_server).steward())
    first = run(ship(engine, there, Shipment(shipped, tmp_path)))[1]
    sent = there.bytes
    assert run(ship(engine, there, Shipment(shipped, tmp_path)))[1] == first
    assert there.bytes == sent


def test_a_cut_shipping_goes_on_with_the_bytes_that_are_missing(
    engine: Engine, shared_gpu_server: GPUServer, reach: Reach, shipped: str, tmp_path: Path
) -> None:
    host = reach(shared_gpu_server)
    cut_after = LAYER_BYTES + (3 << 20)
    cut = Counting(host.steward(), break_after=cut_after)
    with pytest.raises(Unreachable):
        run(ship(engine, cut, Shipment(shipped, tmp_path)))
    assert cut.bytes >= cut_after
    again = Counting(host.steward())
    run(ship(engine, again, Shipment(shipped, tmp_path)))
    assert 0 < again.bytes <= LAYER_BYTES - ARRIVED_BYTES
    assert shared_gpu_server.run(f"docker run --rm {shipped} wc -c /random-2").split()[0] == str(LAYER_BYTES)


def test_a_server_without_any_image_gets_all_of_it(
    engine: Engine, new_gpu_server: Callable[..., GPUServer], reach: Reach, image: str, tmp_path: Path
) -> None:
    server = new_gpu_server()
    there = Counting(reach(server).steward())
    run(ship(engine, there, Shipment(image, tmp_path)))
    assert BASE_BYTES < there.bytes < engine.inspect_image(image)["Size"] / 2 + 2 * LAYER_BYTES
    assert server.run(f"docker run --rm {image} wc -c /random-2").split()[0] == str(LAYER_BYTES)


class Mistaken(Counting):
    """A server that says it has the base, and has not: its engine refuses an archive that leaves it out."""

    def call(self, op: str, payload: bytes | Iterable[bytes] = b"", **args: Any) -> dict[str, Any]:
        if op == "image_layers":
            return {"chains": [[args["first"]]]}
        return super().call(op, payload, **args)


def test_an_engine_that_insists_on_every_layer_gets_them(
    engine: Engine, new_gpu_server: Callable[..., GPUServer], reach: Reach, image: str, tmp_path: Path
) -> None:
    server = new_gpu_server()
    there = Mistaken(reach(server).steward())
    run(ship(engine, there, Shipment(image, tmp_path)))
    assert BASE_BYTES < there.bytes < engine.inspect_image(image)["Size"] / 2 + 2 * LAYER_BYTES
    listed = json.loads(server.run(f"docker image inspect {image}"))
    assert listed[0]["RootFS"] == engine.inspect_image(image)["RootFS"]
