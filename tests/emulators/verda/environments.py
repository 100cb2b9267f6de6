"""Makes the official SDK's Python environment once, below `.cache/`, and runs code in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.emulators.verda.emulator import Verda

CACHE = Path(__file__).parents[3] / ".cache" / "verda"
CLIENT = ("verda==1.25.0", "datacrunch==1.25.0")
BEGIN = """
import json, sys, warnings
warnings.simplefilter("ignore")
from verda import VerdaClient
from verda.exceptions import APIException
url, client_id, client_secret = json.load(sys.stdin)
client = VerdaClient(client_id, client_secret, url)
result = None
"""
END = "\nprint(json.dumps(result, default=lambda one: one.__dict__))\n"


def sdk(verda: Verda, code: str) -> Any:
    """Run code that has a `client` of the unmodified SDK; what it leaves in `result`."""
    given = json.dumps([verda.url, verda.credential.client_id, verda.credential.client_secret])
    clean = {"PATH": "/usr/bin:/bin", "NO_PROXY": "127.0.0.1"}
    command = [str(official_python()), "-c", BEGIN + code + END]
    done = subprocess.run(
        command, input=given, env=clean, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def official_python() -> Path:
    """The interpreter that has the SDK."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder, made_of = CACHE / "client", CACHE / "client.made-of"
    recipe = hashlib.sha256(repr((sys.executable, CLIENT)).encode()).hexdigest()
    with open(CACHE / "lock", "w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not made_of.exists() or made_of.read_text() != recipe:
            _uv("venv", "--clear", "--python", sys.executable, str(folder))
            _uv("pip", "install", "--compile-bytecode", "--python", str(folder), *CLIENT)
            made_of.write_text(recipe)
    return folder / "bin" / "python"


def _uv(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], check=True)
