"""The agent as one file: a zip of launcher/agent for any python3 >= 3.8. Same sources, same digest."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from pathlib import Path

MAIN = b"""import sys

if sys.argv[1:2] == ["serve"]:
    from launcher.agent.serve import main

    main(sys.argv[2:])
else:
    import runpy

    runpy.run_module("launcher.agent.__main__", run_name="__main__")
"""
EPOCH = (1980, 1, 1, 0, 0, 0)


@functools.cache
def agent_archive() -> tuple[bytes, str]:
    """(bytes, SHA-256 in hex). Stored, not deflated: zlib's versions differ in their output."""
    sources = Path(__file__).parent.parent / "agent"
    entries = {"__main__.py": MAIN, "launcher/__init__.py": b""}
    for path in sources.glob("*.py"):
        entries[f"launcher/agent/{path.name}"] = path.read_bytes()
    data = _zip(entries)
    return data, hashlib.sha256(data).hexdigest()


def agent_path() -> str:
    """Where the archive lies below a steward's root."""
    return f"agent/{agent_archive()[1]}.pyz"


def _zip(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, entries[name])
    return buffer.getvalue()
