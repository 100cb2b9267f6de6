"""Packages that platforms have beside their Python, with the names of a job's own, and what a job sees of them."""

from __future__ import annotations

from pathlib import Path

PACKAGES = ("six==1.15.0", "click==8.0.4")  # on Colab: real ones, of other versions
VERSION = "6.6.6"  # on Kaggle: false ones, in front of all others

# A job whose weights tell which Python, which packages and which versions made them.
TRAIN = """
import hashlib, importlib.metadata, json, os, pathlib, sys
import click, six
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
(out / "checkpoints").mkdir()
made_of = [sys.version, *(f"{name} {importlib.metadata.version(name)}" for name in ("click", "six"))]
state = six.ensure_binary("\\n".join(made_of))
for step in range(1, 4):
    state = hashlib.sha256(state).digest()
    with open(out / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step, "loss": state[0] / 256}) + "\\n")
    part = out / "checkpoints" / f"step-{step}.bin.tmp"
    part.write_bytes(state)
    part.rename(part.with_suffix(""))
(out / "final.bin").write_bytes(state)
there = sorted({one.metadata["Name"] for one in importlib.metadata.distributions()})
print(json.dumps({"environ": dict(os.environ), "path": sys.path, "packages": there, "made_of": made_of}))
"""


def write(folder: Path) -> Path:
    """The folder, filled with packages that work, and are not the right ones."""
    texts = {"six": "def ensure_binary(text): return b'from the platform'\n", "click": "\n"}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
        metadata = folder / f"{name}-{VERSION}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n")
    return folder
