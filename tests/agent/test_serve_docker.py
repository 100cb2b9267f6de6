"""The steward and a real Docker Engine."""

import io
import json
import tarfile
import time
import uuid

import pytest

from launcher.errors import RemoteError

LABELS = {"launcher.run": "test-abcd2345", "launcher.segment": "0"}


@pytest.fixture
def name(steward, docker_socket):
    """A container's name; whoever has it is removed at the end."""
    name = f"launcher-test-{uuid.uuid4().hex[:8]}"
    yield name
    steward.call("docker", method="DELETE", path=f"/containers/{name}?force=1&v=1")


def config(image, *command, labels=LABELS):
    streams = {"AttachStdin": True, "OpenStdin": True, "StdinOnce": True}
    return {
        "Image": image,
        "Cmd": list(command),
        "Labels": labels,
        "HostConfig": {"NetworkMode": "none"},
        **streams,
    }


def output(steward, name):
    """What the container wrote to stdout, out of the engine's frames."""
    stream = steward.stream("docker", method="GET", path=f"/containers/{name}/logs?stdout=1", stream=True)
    raw = b"".join(data for _, data in stream)
    text = b""
    while raw:
        size = int.from_bytes(raw[4:8], "big")
        text, raw = text + raw[8 : 8 + size], raw[8 + size :]
    return text


def ended(stream):
    """The result of a stream, its data thrown away."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def wait(steward, name):
    return steward.call("docker", method="POST", path=f"/containers/{name}/wait", timeout=60)["body"][
        "StatusCode"
    ]


def test_a_container_gets_every_byte_of_its_stdin_and_its_end(steward, base_image, name):
    secret = b'{"secrets":{"TOKEN":"%s"}}\n' % (b"x" * 300_000)
    answer = steward.call("launch_container", secret, name=name, config=config(base_image, "cat"))
    assert answer["adopted"] is False
    assert wait(steward, name) == 0
    assert output(steward, name) == secret


def test_the_secret_is_nowhere_in_the_container_s_description(steward, base_image, name):
    steward.call("launch_container", b"s3cr3t-value\n", name=name, config=config(base_image, "sleep", "30"))
    found = steward.call("docker", method="GET", path=f"/containers/{name}/json")
    assert "s3cr3t-value" not in json.dumps(found)


def test_a_container_of_an_earlier_attempt_is_adopted_and_never_started_twice(steward, base_image, name):
    first = steward.call("launch_container", b"x\n", name=name, config=config(base_image, "sleep", "30"))
    again = steward.call("launch_container", b"x\n", name=name, config=config(base_image, "sleep", "30"))
    assert again == {"id": first["id"], "adopted": True, "status": "running"}


def test_a_container_that_was_created_but_not_started_is_started(steward, base_image, name):
    body = config(base_image, "cat")
    steward.call("docker", method="POST", path=f"/containers/create?name={name}", body=body)
    assert steward.call("launch_container", b"late\n", name=name, config=body)["adopted"] is True
    wait(steward, name)
    assert output(steward, name) == b"late\n"


@pytest.mark.parametrize("labels", [{}, {"their": "own"}, {**LABELS, "launcher.segment": "1"}])
def test_a_stranger_s_container_is_never_touched(steward, base_image, name, labels):
    body = config(base_image, "sleep", "30", labels=labels)
    steward.call("docker", method="POST", path=f"/containers/create?name={name}", body=body)
    with pytest.raises(RemoteError) as error:
        steward.call("launch_container", b"x\n", name=name, config=config(base_image, "cat"))
    assert error.value.code == "exists"


def test_an_image_that_is_not_there_is_missing(steward, name):
    with pytest.raises(RemoteError) as error:
        steward.call("launch_container", b"x\n", name=name, config=config("no-such-image:at-all", "cat"))
    assert error.value.code == "missing"


def test_a_look_and_a_signal_know_the_container(steward, base_image, name, tmp_path):
    folder = tmp_path / "root" / "runs" / "r" / "0"
    folder.mkdir(parents=True)
    assert steward.call("look", folder=str(folder), container=name)["container"] is None
    steward.call("launch_container", b"", name=name, config=config(base_image, "sleep", "60"))
    seen = steward.call("look", folder=str(folder), container=name)["container"]
    assert seen == {"status": "running", "exit_code": 0, "oom": False}
    assert steward.call("signal", folder=str(folder), signal="KILL", container=name) == {"signalled": 1}
    assert wait(steward, name) == 137
    assert steward.call("signal", folder=str(folder), signal="KILL", container=name) == {"signalled": 0}
    seen = steward.call("look", folder=str(folder), container=name)["container"]
    assert seen == {"status": "exited", "exit_code": 137, "oom": False}


def test_a_follow_lasts_as_long_as_the_container(steward, base_image, name, tmp_path):
    folder = tmp_path / "root" / "runs" / "r" / "0"
    folder.mkdir(parents=True)
    steward.call("launch_container", b"", name=name, config=config(base_image, "sleep", "2"))
    start = time.monotonic()
    stream = steward.stream("follow", folder=str(folder), offsets={"log.jsonl": 0}, container=name)
    assert ended(stream) == {"ended": True, "exit": False}
    assert 1 < time.monotonic() - start < 8


def test_tars_go_up_and_come_down(steward, base_image, name):
    body = config(base_image, "cat")
    steward.call("docker", method="POST", path=f"/containers/create?name={name}", body=body)
    data = bytes(3_000_000)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    put = steward.call(
        "docker", buffer.getvalue(), method="PUT", path=f"/containers/{name}/archive?path=/tmp"
    )
    assert put["status"] == 200
    stream = steward.stream(
        "docker", method="GET", path=f"/containers/{name}/archive?path=/tmp/file", stream=True
    )
    raw = b"".join(piece for _, piece in stream)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert archive.extractfile("file").read() == data


def test_no_engine_is_an_error_of_docker(steward, tmp_path):
    with pytest.raises(RemoteError) as error:
        steward.call("docker", method="GET", path="/_ping", socket=str(tmp_path / "none.sock"))
    assert error.value.code == "docker"
    assert "none.sock" in error.value.message


def test_the_probe_finds_the_engine(steward, docker_socket):
    found = steward.call("probe", docker_socket=docker_socket)["docker"]
    assert found["version"]
    assert found["api"]
