"""What was the same in two runs and what was not, down to the step of the metrics and the tensor of the weights."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.run import Run
from launcher.runner.context import Context
from launcher.runner.homes import home_of
from launcher.runner.sources import data_of
from launcher.vault import Home

MAX_HEADER_BYTES = 100 << 20


def diff(ctx: Context, run_a: Run, run_b: Run) -> dict[str, Any]:
    """Rows of what was compared; `equal` when none differs. What neither run has is not compared."""
    a, b = _facts(run_a), _facts(run_b)
    rows = [_row(what, a.get(what), b.get(what)) for what in {**a, **b}]
    rows += [_row(f"param {k}", x, y) for k, x, y in _pairs(_params(run_a), _params(run_b))]
    rows += _packages(run_a, run_b)
    rows += _metrics(home_of(run_a), home_of(run_b))
    rows += _checkpoints(home_of(run_a), home_of(run_b))
    rows += _outputs(home_of(run_a), home_of(run_b))
    return {"a": run_a.id, "b": run_b.id, "equal": all(r["equal"] for r in rows), "rows": rows}


def tensors(path: Path) -> dict[str, str]:
    """name -> SHA-256 over dtype, shape and bytes of each tensor of a safetensors file; {} when it is not one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            return {}
        try:
            header = json.loads(file.read(length))
            return {
                name: _tensor(file, 8 + length, entry)
                for name, entry in sorted(header.items())
                if name != "__metadata__"
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}


def _tensor(file: Any, base: int, entry: Mapping[str, Any]) -> str:
    begin, end = entry["data_offsets"]
    digest = hashlib.sha256(f"{entry['dtype']} {entry['shape']}\n".encode())
    file.seek(base + begin)
    left = end - begin
    while left > 0 and (data := file.read(min(left, 1 << 20))):
        digest.update(data)
        left -= len(data)
    if left:
        raise ValueError("the file ends within a tensor")
    return digest.hexdigest()


def _facts(run: Run) -> dict[str, Any]:
    fingerprint = _fingerprint(run)
    return {
        "job": run.facts.get("job_digest"),
        "bundle": run.facts.get("bundle_digest"),
        "lock": run.facts.get("lock_digest"),
        **{f"data {key}": told["digest"] or told["sha256"] for key, told in data_of(run).items()},
        "portable fingerprint": fingerprint.get("portable_sha256"),
    }


def _fingerprint(run: Run) -> Mapping[str, Any]:
    found = [s.handle["fingerprint"] for s in run.segments if s.handle.get("fingerprint")]
    return found[-1] if found else {}


def _params(run: Run) -> Mapping[str, Any]:
    return dict(run.spec.get("params", {}))


def _packages(run_a: Run, run_b: Run) -> Iterator[dict[str, Any]]:
    a, b = (_fingerprint(r).get("portable", {}) for r in (run_a, run_b))
    if a == b:
        return
    for key, x, y in _pairs(a, b):
        if key == "packages":
            for name, left, right in _pairs(x or {}, y or {}):
                if left != right:
                    yield _row(f"package {name}", left, right)
        elif x != y:
            yield _row(key, x, y)


def _metrics(a: Home, b: Home) -> Iterator[dict[str, Any]]:
    """One row: equal in all steps, or the first step that differs."""
    x, y = _by_step(a.path / "metrics.jsonl"), _by_step(b.path / "metrics.jsonl")
    if not x and not y:
        return
    for step in sorted({*x, *y}):
        if x.get(step) != y.get(step):
            yield _row(f"metrics from step {step:g}", x.get(step), y.get(step))
            return
    yield _row(f"metrics ({len(x)} steps)", "equal", "equal")


def _by_step(path: Path) -> dict[float, Any]:
    """step -> the line's values; times differ in every run and are left out."""
    steps: dict[float, Any] = {}
    if not path.is_file():
        return steps
    for number, text in enumerate(path.read_text(errors="replace").splitlines()):
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            step = value.get("step", number)
            kept = {k: v for k, v in value.items() if not k.endswith(("time", "seconds", "_s", "per_second"))}
            steps[float(step) if isinstance(step, int | float) else float(number)] = kept
    return steps


def _checkpoints(a: Home, b: Home) -> Iterator[dict[str, Any]]:
    x, y = a.newest_checkpoint(), b.newest_checkpoint()
    if not x and not y:
        return
    row = _row("newest checkpoint", x and x.digest, y and y.digest)
    yield {**row, "names": [x and x.name, y and y.name]}
    if x and y and not row["equal"]:
        yield from _tensors(x.path, y.path, "checkpoint")


def _outputs(a: Home, b: Home) -> Iterator[dict[str, Any]]:
    x, y = a.outputs(), b.outputs()
    for name in sorted({n for n in {*x, *y} if Path(n).name.startswith(("final", "model"))}):
        left, right = x.get(name), y.get(name)
        yield _row(f"output {name}", left and left.digest, right and right.digest)
        if left and right and left.digest != right.digest:
            yield from _tensors(left.path, right.path, name)


def _tensors(a: Path, b: Path, where: str) -> Iterator[dict[str, Any]]:
    if a.is_file() and b.is_file():
        for name, x, y in _pairs(tensors(a), tensors(b)):
            if x != y:
                yield _row(f"tensor {name} of {where}", x, y)


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted({*a, *b}):
        yield key, a.get(key), b.get(key)


def _row(what: str, a: Any, b: Any) -> dict[str, Any]:
    return {"what": what, "a": a, "b": b, "equal": a == b}
