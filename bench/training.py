"""Fine-tuning against the ways it is usually done, in seconds of one CPU thread, both sides in the same run:

a probe with cached features against a forward pass in each epoch (20 epochs, the same head at the end); a training
step against torchvision's reference train_one_epoch (same model, batch, threads); what one checkpoint a minute
costs; how fast pictures are loaded; and two processes under torchrun against one with the whole batch.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
JOB = ROOT / "jobs" / "finetune"
ROUNDS, STEPS, EPOCHS = 5, 3, 20


def main() -> None:
    from tests.jobs.conftest import environment

    python = environment(JOB / "requirements.lock", python="3.11")
    subprocess.run([python, __file__, "inside"], env=surroundings(), check=True)
    with tempfile.TemporaryDirectory() as folder:
        measure_processes(python, Path(folder))


def surroundings() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "OMP_NUM_THREADS": "1"}


def measure_processes(python: Path, folder: Path) -> None:
    flags = ["--size=32", "--epochs=3", "--batch=4", "--test-share=0.9", "--seed=1"]
    twice = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for name, how in (("one", []), ("two", twice)):
        command = [python, *how, JOB / "train.py", *flags, "--out", folder / name]
        subprocess.run(command, env=surroundings(), check=True, capture_output=True)
    script = (
        "import sys; from safetensors.torch import load_file\n"
        "a, b = (load_file(f) for f in sys.argv[1:])\n"
        "print(max((a[k].double() - b[k].double()).abs().max().item() for k in a))"
    )
    files = [folder / name / "model.safetensors" for name in ("one", "two")]
    most = float(subprocess.check_output([python, "-c", script, *files]))
    print(f"torchrun, 2 processes against 1: weights differ by {most:.1e} at most (aim < 1e-5)", flush=True)


def inside() -> None:
    """In the jobs' environment."""
    sys.path[:0] = [str(JOB), str(JOB.parent)]
    import data
    import parallel
    import settings
    from run import deterministic, set_up

    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("LAUNCHER_PARAMS", None)
        sys.argv = ["train.py", "--test-share=0.2", "--batch=16", "--bn=train", "--size=160", "--out", folder]
        args = settings.settings("")
        deterministic(1)
        run = set_up(args, parallel.join(), data.load(args))
        measure_probe(run)
        rate = measure_step(run)
        measure_loading(run, rate)
        measure_saving(run)


def measure_probe(run: Any) -> None:
    import torch
    from batches import normalised
    from networks import features

    model = run.model.eval()
    x = torch.stack([run.train[None, i][0] for i in range(len(run.train))])
    x = normalised(x, run.train.look, run.world.device)
    y = torch.tensor([p.label for p in run.train.pictures])

    def look(rows: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            seen = features(model, x[rows])
        return seen.clone()

    def head(see: Any) -> torch.Tensor:
        layer = torch.nn.Linear(1280, 2)
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3, fused=True)
        for epoch in range(EPOCHS):
            for rows in torch.randperm(len(y), generator=torch.Generator().manual_seed(epoch)).split(16):
                loss = torch.nn.functional.cross_entropy(layer(see(rows)), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return layer.weight.detach()

    look(torch.arange(16))
    begun = time.process_time()
    theirs = head(look)
    forward_s = time.process_time() - begun
    begun = time.process_time()
    seen = torch.cat([look(rows) for rows in torch.arange(len(y)).split(16)])
    ours = head(lambda rows: seen[rows])
    cached_s = time.process_time() - begun
    print(
        f"probe, {EPOCHS} epochs  forward {forward_s:.2f} s  cached {cached_s:.2f} s  "
        f"ratio {forward_s / cached_s:.1f} (aim >= 15)  heads differ by {(ours - theirs).abs().max():.1e} (aim < 1e-6)",
        flush=True,
    )


def measure_step(run: Any) -> float:
    """Ours with clipping, soft targets and the metrics file; theirs as torchvision's references/classification."""
    import torch
    from batches import normalised, parts_of_epoch
    from networks import build
    from train import train_step

    B = run.args.batch
    parts = parts_of_epoch(0, list(range(len(run.train))), B)[:STEPS]
    batches = list(run.train.batches(parts, 0))
    look, device = run.train.look, run.world.device
    theirs = build(run.args.arch, run.train.classes, run.args.weights)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-4)
    plain = [(normalised(x, look, device), t.argmax(1)) for x, t in batches]
    ours_s, theirs_s = [], []
    run.args.epochs, run.writer = 10**4, None
    for turn in range(ROUNDS + 1):
        for mine in (True, False) if turn % 2 else (False, True):
            begun = time.process_time()
            if mine:
                run.model.train()
                for x, target in batches:
                    train_step(run, (x, target), (torch.arange(B), B), False)
                    run.log(loss=0.0, lr=0.0, images_per_s=0.0)
                    run.step += 1
            else:
                reference(theirs, optimizer, plain)
            if turn:
                (ours_s if mine else theirs_s).append((time.process_time() - begun) / STEPS / B)
    a, b = statistics.median(theirs_s), statistics.median(ours_s)
    print(
        f"training step, an image  reference {a * 1e3:.2f} ms  ours {b * 1e3:.2f} ms  ratio {b / a:.2f} (aim <= 1.0)",
        flush=True,
    )
    return 1 / b


def reference(model: Any, optimizer: Any, loader: list[tuple[Any, Any]]) -> None:
    """The loop of torchvision's references/classification/train.py, with what it measures in each batch."""
    import torch

    model.train()
    seen = {"loss": 0.0, "acc1": 0.0, "n": 0}
    for image, target in loader:
        with torch.autocast("cpu", enabled=False):
            output = model(image)
            loss = torch.nn.functional.cross_entropy(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.inference_mode():
            top = output.topk(1, 1)[1].t().eq(target[None]).flatten().sum(dtype=torch.float32)
        seen["loss"] += loss.item()
        seen["acc1"] += top.item()
        seen["n"] += len(target)


def measure_loading(run: Any, rate: float) -> None:
    """Photographs of about 500 px as JPEG files, decoded for each batch as if memory held none of them."""
    from batches import Batches, parts_of_epoch
    from pictures import Picture
    from PIL import Image
    from skimage import data

    pictures = []
    for i, pixels in enumerate((data.astronaut(), data.chelsea(), data.coffee(), data.rocket()) * 16):
        file = run.args.out / f"{i}.jpg"
        Image.fromarray(pixels).save(file)
        pictures.append(Picture(file.name, 0, "", file))
    cold = Batches(pictures, run.train.classes, run.train.look, run.train.augment)
    cold.keeps = False
    parts = parts_of_epoch(0, list(range(len(cold))), run.args.batch)
    begun = time.process_time()
    for _ in cold.batches(parts, 0):
        pass
    loaded = len(cold) / (time.process_time() - begun)
    print(f"loading JPEGs  {loaded:.0f} images/s in one process  training takes {rate:.0f}  "
          f"ratio {rate / loaded:.2f} (aim < 1)", flush=True)  # fmt: skip


def measure_saving(run: Any) -> None:
    from run import save

    stalls = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        save(run)
        stalls.append(time.perf_counter() - begun)
        run.step += 1
    folder = run.args.out / "checkpoints" / f"step-{run.step - 1:06d}"
    size = sum(f.stat().st_size for f in folder.iterdir()) / 1e6
    share = statistics.median(stalls) / 60
    print(f"saving {size:.0f} MB once a minute stalls {share:.2%} of the time (aim < 2%)", flush=True)


if __name__ == "__main__":
    inside() if sys.argv[1:] == ["inside"] else main()
