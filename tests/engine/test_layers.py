"""Saved images of both formats are taken apart."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from launcher.engine.layers import exported, kept, known_prefix
from launcher.errors import IntegrityError

LAYERS = [b"lowest" * 1000, b"middle" * 1000, b"top" * 1000]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


CONFIG = json.dumps({"rootfs": {"diff_ids": [digest(layer) for layer in LAYERS]}}).encode()


def archive(members: dict[str, bytes | str]) -> list[bytes]:
    """A tar in small pieces; a text is a link's target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    data = out.getvalue()
    return [data[at : at + 777] for at in range(0, len(data), 777)]


def old_format() -> list[bytes]:
    """What Docker until 24 writes: a folder a layer, equal layers as links, the manifest last."""
    manifest = [{"Config": "c.json", "Layers": [f"{i}/layer.tar" for i in range(3)]}]
    return archive(
        {
            "0/VERSION": b"1.0",
            "0/json": b"{}",
            "0/layer.tar": LAYERS[0],
            "1/layer.tar": "../9/layer.tar",
            "2/layer.tar": LAYERS[2],
            "9/layer.tar": LAYERS[1],
            "c.json": CONFIG,
            "manifest.json": json.dumps(manifest).encode(),
            "repositories": b"{}",
        }
    )


def oci_format() -> list[bytes]:
    """What Docker since 25 writes, with compressed layers as its containerd store has them."""
    blobs = [gzip.compress(layer) for layer in LAYERS]
    names = [f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}" for blob in blobs]
    config = f"blobs/sha256/{hashlib.sha256(CONFIG).hexdigest()}"
    manifest = [{"Config": config, "Layers": names}]
    members: dict[str, bytes | str] = {**dict(zip(names, blobs, strict=True)), config: CONFIG}
    return archive({**members, "index.json": b"{}", "manifest.json": json.dumps(manifest).encode()})


@pytest.mark.parametrize("saved", [old_format, oci_format])
def test_only_the_wanted_layers_are_kept(saved, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    wanted = {digest(LAYERS[1]), digest(LAYERS[2])}
    export = exported(saved(), wanted, tmp_path / "spool")
    assert [layer.digest for layer in export.layers] == [digest(LAYERS[1]), digest(LAYERS[2])]
    for layer, content in zip(export.layers, LAYERS[1:], strict=True):
        data = export.path(layer).read_bytes()
        assert hashlib.sha256(data).hexdigest() == layer.sha256
        assert len(data) == layer.size_bytes
        assert gzip.decompress(data) == content
        assert layer.size_bytes < len(content) / 10
    assert export.path(export.config).read_bytes() == CONFIG
    assert len(list((tmp_path / "spool").iterdir())) == 4


def test_what_was_taken_apart_is_used_again(tmp_path: Path) -> None:
    wanted = {digest(LAYERS[2])}
    export = exported(old_format(), wanted, tmp_path)
    assert kept(tmp_path, wanted) == export
    assert kept(tmp_path, {digest(LAYERS[0])}) is None
    export.path(export.layers[0]).write_bytes(b"cut")
    assert kept(tmp_path, wanted) is None


def test_nothing_is_kept_of_an_export_that_was_cut(tmp_path: Path) -> None:
    with pytest.raises((tarfile.TarError, EOFError, KeyError)):
        exported(old_format()[:10], {digest(LAYERS[2])}, tmp_path)
    assert kept(tmp_path, {digest(LAYERS[2])}) is None


def test_a_layer_that_is_not_in_the_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="has no layer"):
        exported(old_format(), {digest(b"other")}, tmp_path)


@pytest.mark.parametrize(
    ("chains", "count"),
    [
        ([], 0),
        ([["a"]], 1),
        ([["a", "x"], ["a", "b", "y"]], 2),
        ([["b", "c"]], 0),
        ([["a", "b", "c", "d"]], 3),
    ],
)
def test_a_layer_is_known_only_on_the_same_ones_below(chains: list[list[str]], count: int) -> None:
    assert known_prefix(["a", "b", "c"], chains) == count
