"""TensorBoard's own reader of event files, in a process with the TensorBoard that launcher pins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from launcher.tensorboard.server import VERSION
from launcher.tools import installed_uv

READ = """
import json, sys
from tensorboard.compat import tf
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.compat.tensorflow_stub import errors
reader, found = PyRecordReader_New(sys.argv[1]), []
while True:
    try:
        reader.GetNext()
    except errors.OutOfRangeError:
        break
    event = event_pb2.Event.FromString(reader.record())
    values = {value.tag: str(value.simple_value) for value in event.summary.value}
    found.append([event.file_version, event.step, event.wall_time, values])
print(json.dumps(found))
"""


def read(path: Path) -> list[Any]:
    """[file version, step, wall time, {tag: value as text}] of each record; CalledProcessError if it cannot."""
    words = [installed_uv(), "tool", "run", "--quiet", "--python", sys.executable]
    words += ["--from", f"tensorboard=={VERSION}", "python", "-c", READ, str(path)]
    done = subprocess.run(words, check=True, capture_output=True)
    found: list[Any] = json.loads(done.stdout)
    return found
