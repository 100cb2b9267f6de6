"""A payload as a notebook: the JSON of nbformat 4.5, schema-valid, and always the same for the same payload."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.notebook import cells
from launcher.notebook.cells import Facts
from launcher.notebook.payload import AGENT, MANIFEST, Payload

EMBED_BYTES = 5_000_000  # of payload; a larger one comes beside the notebook
Cell = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """`title` and `does` are for the reader: the job's name, and a sentence about it.

    `folders` are where the payload's files should lie there (a dataset's folder); a payload that is not
    embedded is looked for in all of /kaggle/input, or, on Colab, as the file `packed` in /content.
    """

    title: str
    does: str = ""
    readable: bool = True  # to be opened by hand; False: a program follows it
    embed: bool | None = None  # None: when it is small enough
    folders: tuple[str, ...] = ()
    accelerator: str = ""  # colab: T4, L4 … for the notebook's metadata
    packed: str = ""  # colab: the name of the file beside the notebook, when it is not embedded


def embedded(payload: Payload) -> bool:
    """Whether the payload is small enough to travel inside the notebook."""
    return payload.size_bytes <= EMBED_BYTES


def notebook(payload: Payload, options: Options) -> str:
    """The text of the .ipynb file."""
    embed = embedded(payload) if options.embed is None else options.embed
    facts = _facts(payload, options)
    value = {
        "cells": list(_cells(payload, options, facts, embed)),
        "metadata": _metadata(options, facts),
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _facts(payload: Payload, options: Options) -> Facts:
    manifest = payload.file(MANIFEST)
    return Facts(
        told=json.loads(manifest.path.read_bytes()),
        payload_sha256=manifest.sha256,
        agent_sha256=payload.file(AGENT).sha256,
        title=options.title,
        does=options.does,
        packed=options.packed,
        folders=options.folders,
    )


def _cells(payload: Payload, options: Options, facts: Facts, embed: bool) -> Iterator[Cell]:
    yield _cell("title", cells.title(facts, embed), kind="markdown")
    yield _cell("settings", cells.settings(facts))
    yield _cell("files", _files(payload, facts, embed), hidden=embed)
    yield _cell("load", cells.load())
    if not options.readable:
        yield _cell("run", cells.ALL)
        return
    yield _cell("build", cells.BUILD)
    if facts.told["resume"] or facts.told["data"]:
        yield _cell("restore", cells.RESTORE)
    if facts.told["order"]["secrets"]:
        yield _cell("secrets", cells.SECRETS)
    yield _cell("run", cells.RUN)
    if not facts.on_kaggle:
        yield _cell("download", cells.DOWNLOAD)


def _files(payload: Payload, facts: Facts, embed: bool) -> str:
    if embed:
        with tempfile.TemporaryDirectory() as folder:
            packed = payload.packed(Path(folder) / "packed.tar").path.read_bytes()
        return cells.embedding(packed)
    return cells.attached(facts) if facts.on_kaggle else cells.uploaded(facts)


def _cell(name: str, text: str, kind: str = "code", hidden: bool = False) -> Cell:
    """`hidden`: long text that nobody reads, folded away where the platform can."""
    metadata: dict[str, Any] = {"_kg_hide-input": True, "jupyter": {"source_hidden": True}} if hidden else {}
    if hidden:
        metadata["cellView"] = "form"
    cell: Cell = {
        "cell_type": kind,
        "id": name,
        "metadata": metadata,
        "source": text.splitlines(keepends=True),
    }
    return {**cell, "execution_count": None, "outputs": []} if kind == "code" else cell


def _metadata(options: Options, facts: Facts) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    if not facts.on_kaggle:
        metadata["colab"] = {"provenance": []}
        if options.accelerator:
            metadata["accelerator"] = "TPU" if options.accelerator.upper().startswith("V") else "GPU"
            metadata["colab"]["gpuType"] = options.accelerator
    return metadata
