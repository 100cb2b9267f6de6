"""All that a run consists of: how it is set up, saved and resumed."""

import argparse
import math
import os
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import checkpoint
import common
import noise
import parallel
import probes
import settings
from batches import Augment, Batches
from data import Data
from networks import build, check_size, head_name, head_parameters, look_of, set_head, trunk_parameters
from parallel import World
from weights import fingerprint

FEW = 1000  # pictures to learn from, below which batch norms keep ImageNet's statistics
RARE = 3.0  # times as large as another: from then on classes are weighted
EPOCH_SAVE_SHARE = 20  # an epoch's end is saved when this many times the cost of saving has passed


@dataclass
class Run:
    args: argparse.Namespace
    world: World
    data: Data
    train: Batches
    val: Batches
    test: Batches
    model: nn.Module
    noise: noise.Noise
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    amp: torch.dtype | None  # what it computes in; None: float32
    weights_sha256: str
    micro: int  # pictures at once in this process
    ema: dict[str, torch.Tensor] = field(default_factory=dict)
    best: dict = field(default_factory=dict)  # epoch, step, score, loss
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)
    step: int = 0  # steps done
    judged: int = -1  # the last epoch that was scored on the validation part
    saved_step: int = -1
    saved_at: float = field(default_factory=time.monotonic)
    saving_s: float = 0.0
    spent_s: float = 0.0  # in earlier segments
    begun_at: float = field(default_factory=time.monotonic)
    writer: SummaryWriter | None = None
    class_weights: torch.Tensor | None = None

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self.train) / self.args.batch)

    @property
    def steps(self) -> int:
        return self.steps_an_epoch * self.args.epochs if self.args.stage == "finetune" else 0

    @property
    def weight_of(self) -> torch.Tensor | None:
        """Of each class in the loss; a mean picture weighs 1."""
        counts = torch.tensor(self.data.counts("train"), dtype=torch.float)
        auto = self.args.balance == "auto" and counts.max() > RARE * counts.min()
        return counts.sum() / (len(counts) * counts) if auto or self.args.balance == "weights" else None

    @property
    def odds(self) -> torch.Tensor | None:
        """Of each picture to be drawn, where rare ones are drawn more often."""
        counts = self.data.counts("train")
        own = torch.tensor([1 / counts[p.label] for p in self.train.pictures])
        return own if self.args.balance == "sampling" else None

    @property
    def bn_frozen(self) -> bool:
        return self.args.bn == "frozen" or (self.args.bn == "auto" and len(self.train) < FEW)

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """What is judged and kept: the averaged ones where there are any."""
        return self.ema or self.model.state_dict()

    @property
    def seconds(self) -> float:
        return self.spent_s + time.monotonic() - self.begun_at

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.world.device.type, self.amp, enabled=self.amp is not None)

    def log(self, **values: float) -> None:
        if self.writer:
            common.log(self.args.out, self.step, **values)
            for name, value in values.items():
                self.writer.add_scalar(name, value, self.step)

    def say(self, text: str) -> None:
        if self.world.first:
            print(text, flush=True)

    def identity(self) -> dict:
        of_weights = {"weights": self.weights_sha256}
        return {"config": settings.config(self.args) | of_weights, "split": self.data.digest()}

    def place(self) -> dict:
        """Whatever rounds otherwise."""
        device = self.world.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{self.args.threads} threads"
        own = {"device": f"{device.type}, {name}", "processes": self.world.size, "micro_batch": self.micro}
        return own | {"torch": torch.__version__, "amp": str(self.amp)}


def set_up(args: argparse.Namespace, world: World, data: Data) -> Run:
    torch.manual_seed(args.seed)
    C = len(data.labels)
    look = look_of(args.arch, str(args.weights), args.size, args.resize)
    model = build(args.arch, C, str(args.weights))
    check_size(model, args.arch, args.size)
    trunk = {n: t for n, t in model.state_dict().items() if not n.startswith(head_name(model) + ".")}
    augment = Augment(args.seed, args.flip, args.scale, args.mixup, args.cutmix)
    parts = {name: Batches(own, C, look, augment) for name, own in data.parts.items()}
    model = on(model, args, world.device)
    # Both groups exist from the first step on: groups added later break the resuming of the optimizer.
    groups = [{"params": trunk_parameters(model)}, {"params": head_parameters(model)}]
    # eps: what is smaller than 1e-6 is rounding, and must not become a step of full length
    optimizer = torch.optim.AdamW(groups, lr=args.lr, weight_decay=args.weight_decay, eps=1e-6, fused=True)
    amp = computing_in(args.amp, world.device)
    scaler = torch.amp.GradScaler(world.device.type, enabled=amp is torch.float16)
    drawn = noise.install(model, args.seed)
    micro = args.micro_batch or math.ceil(args.batch / world.size)
    sha256 = fingerprint(trunk)
    run = Run(args, world, data, **parts, model=model, noise=drawn, optimizer=optimizer,
              scaler=scaler, amp=amp, weights_sha256=sha256, micro=micro)  # fmt: skip
    run.class_weights = None if run.weight_of is None else run.weight_of.to(world.device)
    return run


def say_balance(run: Run) -> None:
    counts = run.data.counts("train")
    how = "weigh more" if run.class_weights is not None else "are drawn more often"
    if run.class_weights is not None or run.odds is not None:
        times = max(counts) / min(counts)
        run.say(f"the largest class has {times:.1f} times as many pictures as the smallest: rare ones {how}")


def on(model: nn.Module, args: argparse.Namespace, device: torch.device) -> nn.Module:
    return model.to(
        device, memory_format=torch.channels_last if args.channels_last else torch.contiguous_format
    )


def computing_in(amp: str, device: torch.device) -> torch.dtype | None:
    if amp == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        amp = "bf16" if fast else "fp16" if device.type == "cuda" else "off"
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def start(run: Run) -> None:
    """The probe becomes the head; what learns next begins here."""
    if run.world.first:
        seen = probes.see_once(run.data.all, run.model.eval(), run.train, run.args, run.world.device)
        weight, bias = probes.fit_linear(
            *probes.of(seen, run.train.pictures), len(run.data.labels), run.weight_of
        )
        set_head(run.model, weight, bias)
    parallel.same_everywhere(run.world, run.model)
    if run.args.ema:
        run.ema = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def save(run: Run) -> None:
    """A disk that is full must not end the run: the older checkpoint stays."""
    if not run.world.first:
        return
    begun = time.monotonic()
    state = {"step": run.step, "best": run.best, "seconds": run.seconds} | run.identity()
    state["place"] = run.place()
    tensors = {"model": run.model.state_dict(), "ema": run.ema, "best": run.best_state}
    if not all(t.isfinite().all() for own in tensors.values() for t in own.values()):
        raise FloatingPointError("a weight")
    optimizer = {"optimizer": run.optimizer.state_dict(), "scaler": run.scaler.state_dict()}
    path = run.args.out / "checkpoints" / f"step-{run.step:06d}"
    try:
        own = {name: tensor for name, tensor in tensors.items() if tensor}
        checkpoint.write(path, own, state, run.data.split_csv(), optimizer)
        run.saved_step = run.step
    except OSError as error:
        run.say(f"could not save {path.name}: {error.strerror or error}; the checkpoint before it stays")
    run.saved_at = time.monotonic()
    run.saving_s = run.saved_at - begun


def due(run: Run, epoch_ended: bool) -> bool:
    waited = time.monotonic() - run.saved_at
    return waited > run.args.every or (epoch_ended and waited > EPOCH_SAVE_SHARE * run.saving_s)


def save_best(run: Run) -> None:
    run.best_state = {name: tensor.detach().cpu().clone() for name, tensor in run.weights.items()}
    if run.world.first:
        try:
            checkpoint.write_best(run.args.out / "checkpoints" / "best", run.best_state, run.best)
        except OSError as error:
            run.say(f"could not save best: {error.strerror or error}; the one before it stays")


def resume(run: Run) -> None:
    path = run.args.resume
    state, tensors, optimizer = checkpoint.read(path)
    checkpoint.refuse_another_run(path, state, run.identity(), run.data.split_csv())
    for change in checkpoint.differences(state["place"], run.place()):
        run.say(f"{change}: the model will be as good, but not the same to the last bit")
    checkpoint.load_into(run.model, tensors["model"], path)
    try:
        run.optimizer.load_state_dict(optimizer["optimizer"])
        run.scaler.load_state_dict(optimizer["scaler"]) if run.scaler.is_enabled() else None
    except (ValueError, KeyError, RuntimeError) as error:
        common.refuse(f"cannot resume {path}: its optimizer.pt does not fit: {error}")
    like = run.model.state_dict()  # in the same memory format, else they would round otherwise
    run.ema = {name: torch.empty_like(like[name]).copy_(t) for name, t in tensors.get("ema", {}).items()}
    run.best, run.best_state = state["best"], tensors.get("best", {})
    run.step, run.saved_step, run.spent_s = state["step"], state["step"], state["seconds"]
    run.micro = min(run.micro, state["place"]["micro_batch"])
    run.judged = run.step // run.steps_an_epoch - 1  # once more at an epoch's end: it changes nothing
    run.say(f"goes on after step {run.step} of {run.steps}")


def open_out(run: Run) -> None:
    """Only the first process writes."""
    out, checkpoints = run.args.out, run.args.out / "checkpoints"
    if not run.world.first:
        return
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        common.refuse(f"--out {out}: {error.strerror}")
    if not run.args.resume and any(checkpoints.glob("step-*")):
        common.refuse(
            f"{checkpoints} holds those of another run: --resume one of them, or name another --out"
        )
    checkpoint.tidy(checkpoints)
    common.forget_after(out, run.step)
    (out / "split.csv").write_text(run.data.split_csv())
    run.writer = SummaryWriter(out / "tensorboard", purge_step=run.step or None, flush_secs=5)


def deterministic(threads: int) -> None:
    """The same sums in the same order, as far as a GPU can."""
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
