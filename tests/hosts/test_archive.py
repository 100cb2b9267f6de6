"""The agent's archive: one file, the same for the same sources."""

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import launcher.agent
from launcher.hosts import archive


def test_the_digest_is_the_sha256_of_the_bytes():
    data, digest = archive.agent_archive()
    assert hashlib.sha256(data).hexdigest() == digest
    assert archive.agent_path() == f"agent/{digest}.pyz"


def test_the_same_sources_give_the_same_bytes():
    first = archive.agent_archive.__wrapped__()
    assert archive.agent_archive.__wrapped__() == first


def test_every_module_of_the_agent_is_in_it():
    names = zipfile.ZipFile(io.BytesIO(archive.agent_archive()[0])).namelist()
    sources = Path(launcher.agent.__file__).parent.glob("*.py")
    assert {f"launcher/agent/{path.name}" for path in sources} < set(names)


def test_the_file_runs_by_itself(tmp_path):
    path = tmp_path / "agent.pyz"
    path.write_bytes(archive.agent_archive()[0])
    command = [sys.executable, "-I", "-B", str(path), "serve", "--root", str(tmp_path / "root")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=30)
    assert done.returncode == 0
    assert done.stdout.startswith(b'{"id":0,"hello":{"v":1,')
