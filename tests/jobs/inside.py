"""Python in the jobs' environment, one process for many tests: code goes in, JSON comes out."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

JOBS = Path(__file__).parents[2] / "jobs"

LOOP = """
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
answers, sys.stdout = sys.stdout, sys.stderr
import pictures
for line in sys.stdin:
    code, names = json.loads(line)
    said = io.StringIO()
    names |= {"pictures": pictures}
    with contextlib.redirect_stderr(said):
        try:
            exec(code, names)
            answer = {"result": names.get("result")}
        except SystemExit as error:
            answer = {"refused": said.getvalue(), "status": error.code}
        except BaseException as error:
            answer = {"raised": type(error).__name__ + ": " + str(error)}
    print(json.dumps(answer), file=answers, flush=True)
"""


class Refused(Exception):
    """The line that a job says instead of going on."""


class Inside:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __call__(self, code: str, **names: Any) -> Any:
        """Run `code`, in which `pictures` is there and `names` are; what it calls `result` comes back."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([code, names], default=os.fspath) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "refused" in answer:
            assert answer["status"] == 2
            raise Refused(answer["refused"])
        assert "raised" not in answer, answer["raised"]
        return answer["result"]


@contextmanager
def inside(python: Path) -> Iterator[Inside]:
    surroundings = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
    argv = [str(python), "-c", LOOP, str(JOBS)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, env=surroundings, stdin=pipe, stdout=pipe, text=True)
    with process:
        try:
            yield Inside(process)
        finally:
            process.kill()
