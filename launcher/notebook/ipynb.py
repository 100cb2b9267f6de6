"""A payload as a notebook: the JSON of nbformat 4.5, schema-valid, and always the same for the same payload."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.notebook.payload import Payload

EMBED_BYTES = 5_000_000  # of packed payload; a larger one comes beside the notebook


@dataclass(frozen=True)
class Options:
    """`platform` is kaggle or colab. `title`, `run_id`, `does` are for the reader.

    `folders` are where the payload's files lie there (a dataset's folder); "" embeds them when they are small
    and otherwise looks for them: in /kaggle/input, or on Colab in /content, asking for an upload.
    """

    platform: str
    title: str
    run_id: str
    does: str = ""
    readable: bool = True  # to be opened by hand; False: a program follows it
    folders: tuple[str, ...] = ()
    accelerator: str = ""  # colab: T4, L4 … for the notebook's metadata
    packed: str = ""  # the name of the file beside the notebook, when it is not embedded


def embedded(payload: Payload) -> bool:
    """Whether the payload is small enough to travel inside the notebook."""
    return payload.size_bytes <= EMBED_BYTES


def notebook(payload: Payload, options: Options) -> str:
    """The text of the .ipynb file."""
    raise NotImplementedError
