"""The cells that a run's kernel is given, as texts (pure). No secret is ever part of one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

SIZES = "launcher:sizes "  # how the watching cell tells how far the files are: {path: bytes}
ALIVE = "launcher:alive "  # how a cell says whether the agent lives: yes or no
BUILD = "job.build()"
RESTORE = "job.restore()"  # the checkpoint and the data
SECRETS = "import json\njob.take_secrets(json.loads(input()))"  # they come over the kernel's own channel
START = "job.start()"

_AGENT = """\
import sys
if {agent!r} not in sys.path:
    sys.path.insert(0, {agent!r})
"""
_OPEN = """\
from launcher.agent import notebook
job = notebook.Job({payload!r}, sha256={sha256!r})
"""
_LOOK = """\
from launcher.agent.segment import alive
print({mark!r} + ("yes" if alive({folder!r}) else "no"), flush=True)
"""
# The data themselves are read from the disk: Jupyter thins out what a cell prints too fast.
_WATCH = """\
import json, os, time
from launcher.agent.segment import alive

def sizes():
    paths = [(name, os.path.join({folder!r}, name)) for name in {names!r}]
    return {{name: os.path.getsize(path) for name, path in paths if os.path.isfile(path)}}

told, living = None, True
while living:
    living = alive({folder!r})
    found = sizes()
    if found != told:
        print({mark!r} + json.dumps(found), flush=True)
        told = found
    if living:
        time.sleep(0.5)
"""

_NAME = """\
import os
for path, name in {names!r}.items():
    name, path = os.path.join({folder!r}, name), os.path.join({folder!r}, path)
    os.makedirs(os.path.dirname(name), 0o700, exist_ok=True)
    if os.path.isfile(path):  # a link of the other kind would be followed to the hidden name
        if os.path.lexists(name):
            os.unlink(name)
        os.link(path, name)
"""


def opened(payload: str, sha256: str) -> str:
    """Opens the payload, which lies in this folder there; its parts are checked by their hashes."""
    return _agent(payload) + _OPEN.format(payload=payload, sha256=sha256)


def looking(payload: str, folder: str) -> str:
    """Says whether the segment's agent lives."""
    return _agent(payload) + _LOOK.format(folder=folder, mark=ALIVE)


def watching(payload: str, folder: str, names: Sequence[str]) -> str:
    """Keeps the kernel busy as long as the segment's agent lives, and says how far its files are."""
    return _agent(payload) + _WATCH.format(folder=folder, names=list(names), mark=SIZES)


def naming(folder: str, names: Mapping[str, str]) -> str:
    """Gives files of the segment's folder second names there: {path: name}."""
    return _NAME.format(folder=folder, names=dict(names))


def lives(text: str) -> bool:
    """What the looking cell said."""
    return f"{ALIVE}yes" in text


def sizes_in(text: str) -> Mapping[str, int]:
    """What the watching cell told last, in a piece of its output."""
    told = re.findall(rf"^{SIZES}(\{{.*\}})$", text, re.MULTILINE)
    try:
        found = json.loads(told[-1]) if told else {}
    except ValueError:
        return {}
    return {str(name): size for name, size in found.items() if isinstance(size, int)}


def _agent(payload: str) -> str:
    return _AGENT.format(agent=f"{payload}/agent.bin")
