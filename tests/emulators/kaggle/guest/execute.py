"""Runs a pushed notebook with a real Jupyter kernel, or a script, and tells line by line what it prints.

`execute.py notebook|script PATH FD`: JSON events {"stream_name", "data"} go to FD, one a line.
"""

import codecs
import json
import os
import subprocess
import sys
import threading
from typing import Any

KERNEL_DIED, CELL_FAILED = 3, 1


def main() -> int:
    kind, path, out = sys.argv[1], sys.argv[2], int(sys.argv[3])
    events = Events(out)
    return notebook(path, events) if kind == "notebook" else script(path, events)


class Events:
    def __init__(self, out: int) -> None:
        os.set_inheritable(out, False)
        self._file = os.fdopen(out, "w")
        self._lock = threading.Lock()

    def tell(self, stream: str, text: str) -> None:
        with self._lock:
            self._file.write(json.dumps({"stream_name": stream, "data": text}) + "\n")
            self._file.flush()


def notebook(path: str, events: Events) -> int:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    class Told(NotebookClient):
        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            content = msg["content"]
            if msg["msg_type"] == "stream":
                events.tell(content["name"], content["text"])
            elif msg["msg_type"] == "error":
                events.tell("stderr", "\n".join(content["traceback"]) + "\n")
            return super().process_message(msg, cell, cell_index)

    cells = nbformat.read(path, as_version=4)
    try:
        Told(cells, timeout=None, kernel_name="python3", startup_timeout=120).execute()
    except CellExecutionError:
        return CELL_FAILED
    except DeadKernelError:
        events.tell("stderr", "nbclient.exceptions.DeadKernelError: Kernel died\n")
        return KERNEL_DIED
    return 0


def script(path: str, events: Events) -> int:
    process = subprocess.Popen(
        [sys.executable, "-u", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    pipes = {"stdout": process.stdout, "stderr": process.stderr}
    threads = [threading.Thread(target=tell_lines, args=(pipes[name], name, events)) for name in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    code = process.wait()
    return KERNEL_DIED if code < 0 else code


def tell_lines(pipe: Any, name: str, events: Events) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for line in iter(pipe.readline, b""):
        events.tell(name, decoder.decode(line))


if __name__ == "__main__":
    sys.exit(main())
