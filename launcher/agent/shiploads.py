"""Images made elsewhere: which layers the engine here has, and a load of one from uploaded parts."""

import io
import json
import os
import tarfile

from launcher.agent import dockerapi
from launcher.agent.operation import Failure
from launcher.agent.steward_files import within

BLOCK = 1 << 20
LOAD_TIMEOUT_S = 3600.0


def image_layers(operation):
    """The layers of every image here that starts with the layer `first`: lists of digests, lowest first."""
    first, chains = operation.args["first"], []
    for image in _ask("/images/json?all=1"):
        operation.check()
        layers = (_ask("/images/%s/json" % image["Id"]).get("RootFS") or {}).get("Layers") or []
        if layers[:1] == [first] and layers not in chains:
            chains.append(layers)
    return {"chains": chains}


def load_image(operation):
    """Give the engine an archive of `config` and `layers` under the name `tag`.

    A layer is [digest, path], or [digest, null] when it has to be here already. Says how far it is.
    """
    args = operation.args
    parts = [(digest, path and within(operation.root, path)) for digest, path in args["layers"]]
    config = within(operation.root, args["config"])
    body = _archive(operation, config, parts, args["tag"])
    with dockerapi.Call(LOAD_TIMEOUT_S) as call:
        operation.on_cancel(call.abort)
        answer = call.ask("POST", "/images/load?quiet=1", body, {"Content-Type": "application/x-tar"})
        said = answer.read(BLOCK).decode("utf-8", "replace")
    if answer.status >= 400:
        raise Failure("docker", "Docker answered %d: %s" % (answer.status, said[:1000]))
    _look_for_errors(said)
    return {}


def _archive(operation, config, parts, tag):
    """The bytes of a `docker save` that leaves out what is here."""
    name = os.path.basename(config) + ".json"
    places = ["%s/layer.tar" % digest.partition(":")[2] for digest, _ in parts]
    manifest = [{"Config": name, "RepoTags": [tag], "Layers": places}]
    yield from _member("manifest.json", io.BytesIO(json.dumps(manifest).encode()))
    with open(config, "rb") as file:
        yield from _member(name, file)
    written = set()
    for number, (_, path) in enumerate(parts):
        place = places[number]
        if path is None or place in written:
            continue
        written.add(place)
        operation.send(layer=place)
        with open(path, "rb") as file:
            yield from _member(place, file)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(name, file):
    entry = tarfile.TarInfo(name)
    entry.size = left = file.seek(0, os.SEEK_END)
    file.seek(0)
    yield entry.tobuf(tarfile.GNU_FORMAT)
    while left:
        piece = file.read(min(BLOCK, left))
        if not piece:
            raise Failure("bad", "%s became shorter while it was read" % name)
        left -= len(piece)
        yield piece
    yield bytes(-entry.size % tarfile.BLOCKSIZE)


def _look_for_errors(said):
    """A load that failed half way is still answered with 200; the error is in its text."""
    for line in said.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and value.get("error"):
            raise Failure("docker", "Docker cannot load the image: %s" % value["error"])


def _ask(path):
    status, body = dockerapi.request("GET", path)
    if status != 200:
        raise Failure("docker", dockerapi.message(status, body))
    return body
