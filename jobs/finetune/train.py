"""Fine-tune a pretrained network on labelled pictures, beside what is cheaper.

    python train.py                                # 200 patches out of scikit-image: faces or not
    python train.py --data DIR                     # your pictures: DIR/<class>/*.jpg
    python train.py --data labels.csv --arch resnet18 --weights torchvision
    python train.py --stage probe                  # only a linear classifier on frozen features: seconds
    python train.py --resume out/checkpoints/step-000120
    python train.py --data DIR --processes 2       # two processes; without a word one for each GPU
    torchrun --nproc-per-node 2 train.py --data DIR            # the same

First a linear probe: the frozen network looks at each picture once, and logistic regression is fitted to
what it saw. Then fine-tuning: the probe becomes the head, and all weights learn, the trunk ten times slower
than the head. Probes of raw pixels and of a random network say whether transfer was worth it.

Of each class a fifth is the test part, looked at once, at the end, and a fifth of the others, where that is enough,
the validation part: the epoch that does best on it is kept, and training ends when it does no better.

Writes to --out: report/index.html, model_card.md, model.safetensors, labels.json, preprocess.json,
unlike.safetensors, split.csv, metrics.jsonl, tensorboard/, checkpoints/{step-000120, best}. A run that is
killed at any moment and resumed ends with the same model, byte for byte, as one left alone (same machine,
--threads and processes; any number of --workers): order, augmentation, dropout and learning rate are
functions of seed and step, so no random state can get lost.

Under `launcher` settings come from $LAUNCHER_PARAMS and pictures from $LAUNCHER_DATA/train and /test.
SIGTERM, or the coming of $LAUNCHER_DEADLINE, saves a checkpoint and ends with status 75: "resume me".
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # shared parts: one folder up by hand, else beside

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import data
import ending
import parallel
import processes
import settings
from batches import Batches, normalised, order, parts_of_epoch
from common import Stop
from probes import balanced_accuracy
from run import Run, deterministic, due, open_out, resume, save, save_best, say_balance, set_up, start

PRETENDED_MEMORY = int(os.environ.get("FINETUNE_PRETENDED_MEMORY", "1000000"))  # pictures at once, for tests


def main(args: argparse.Namespace) -> None:
    deterministic(args.threads)
    world, stop = parallel.join(), Stop()
    run = set_up(args, world, data.load(args))
    n, v, m = (len(run.data.parts[part]) for part in ("train", "val", "test"))
    shares = f"{n} pictures to learn from, {f'{v} to choose by, ' if v else ''}{m} to test on"
    run.say(f"{shares}, {len(run.data.labels)} classes, on {world.device}")
    for note in run.data.notes:
        run.say(f"note: {note}")
    for name, why in run.data.left_out[:20]:
        run.say(f"left out {name}: {why}")
    say_balance(run)
    resume(run) if args.resume else None
    open_out(run)
    start(run) if not args.resume else None
    if args.stage == "finetune":
        finetune(run, stop)
    run.model.load_state_dict(run.best_state or run.weights)
    run.ema = {}  # else it would be tested in place of what is kept
    odds, _ = evaluate(run, run.test)  # once, and by all processes
    if world.first:
        ending.write(run, odds)
    parallel.leave(world)


def finetune(run: Run, stop: Stop) -> None:
    with stop.held():
        run.train.warm(run.args.workers)
        if run.step == 0:
            save(run)
        while not stop.asked:
            epoch, begun = divmod(run.step, run.steps_an_epoch)
            if not begun and run.judged < epoch:  # also when a resumed run starts there
                judge(run, epoch)
            if run.step == run.steps or out_of_patience(run):
                break
            train_one_epoch(run, epoch, stop)
        if run.saved_step != run.step:
            save(run)


def train_one_epoch(run: Run, epoch: int, stop: Stop) -> None:
    run.model.train()
    for layer in run.model.modules():  # a few pictures' statistics would be worse than ImageNet's
        if run.bn_frozen and isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
    indices = order(epoch, run.args.seed, run.odds, len(run.train))
    parts = parts_of_epoch(epoch, indices, run.args.batch)[run.step % run.steps_an_epoch :]
    rank, size = run.world.rank, run.world.size
    own = [part[rank::size] or part[:1] for part in parts]  # of a last batch maybe none is ours
    then = time.monotonic()
    for part, (x, target) in zip(parts, run.train.batches(own, run.args.workers), strict=True):
        rows = torch.arange(rank, len(part), size)
        loss, stopping = train_step(run, (x[: len(rows)], target[: len(rows)]), (rows, len(part)), stop.asked)
        now = time.monotonic()
        run.log(loss=loss, lr=learning_rate(run), images_per_s=len(part) / (now - then))
        run.step, then = run.step + 1, now
        stop.asked = stop.asked or stopping
        if stop.asked or due(run, run.step % run.steps_an_epoch == 0):
            save(run)
        if stop.asked:
            return


def train_step(
    run: Run, batch: tuple[torch.Tensor, torch.Tensor], place: tuple[torch.Tensor, int], stop: bool
) -> tuple[float, bool]:
    """The whole batch's loss, and whether any process was asked to stop."""
    rows, B = place
    trunk, head = run.optimizer.param_groups
    trunk["lr"], head["lr"] = run.args.trunk_lr * learning_rate(run), learning_rate(run)
    parameters = trunk["params"] + head["params"]
    loss = gradients(run, *batch, rows, B)
    parallel.add_gradients(run.world, parameters)
    loss, stops = parallel.total(
        run.world, torch.tensor([loss, float(stop)], device=run.world.device)
    ).tolist()
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")
    run.scaler.unscale_(run.optimizer)
    if run.args.clip:
        nn.utils.clip_grad_norm_(parameters, run.args.clip, foreach=True)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if run.ema:
        average(run)
    return loss, stops > 0


def gradients(run: Run, x: torch.Tensor, target: torch.Tensor, rows: torch.Tensor, B: int) -> float:
    """Of this process's pictures, in as many pieces as memory needs; all pieces of all processes add up."""
    while True:
        run.optimizer.zero_grad()
        try:
            pieces = zip(*(t.split(run.micro) for t in (x, target, rows)), strict=True) if len(x) else ()
            return sum(piece(run, *own, B) for own in pieces)
        except torch.OutOfMemoryError:
            if run.micro == 1:
                raise
        run.micro = math.ceil(min(run.micro, len(x)) / 2)
        torch.cuda.empty_cache() if torch.cuda.is_available() else None
        run.say(f"out of memory: {run.micro} pictures at once from step {run.step} on, the batch stays {B}")


def piece(run: Run, x: torch.Tensor, target: torch.Tensor, rows: torch.Tensor, B: int) -> float:
    if len(x) > PRETENDED_MEMORY:
        raise torch.OutOfMemoryError
    run.noise.step, run.noise.rows, run.noise.B = run.step, rows, B
    x = normalised(x, run.train.look, run.world.device)
    if run.args.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with run.autocast():
        logits = run.model(x)
        smooth, weight = run.args.label_smoothing, run.class_weights
        target = target.to(run.world.device, non_blocking=True)
        loss = F.cross_entropy(logits.float(), target, weight, label_smoothing=smooth, reduction="sum") / B
    run.scaler.scale(loss).backward()
    return loss.item()


def average(run: Run) -> None:
    """EMA; its decay grows with the steps, else the first weights would stay in it for long."""
    decay = min(run.args.ema, (1 + run.step) / (10 + run.step))
    theirs = run.model.state_dict()
    floats = [name for name, tensor in run.ema.items() if tensor.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_([run.ema[n] for n in floats], [theirs[n] for n in floats], 1 - decay)
    for name in run.ema.keys() - set(floats):
        run.ema[name].copy_(theirs[name])


def learning_rate(run: Run) -> float:
    """Of the head: up over the first steps, then half a cosine down."""
    warm = max(round(run.steps * run.args.warmup), 1)
    if run.step < warm:
        return run.args.lr * (run.step + 1) / warm
    return run.args.lr * 0.5 * (1 + math.cos(math.pi * (run.step - warm) / max(run.steps - warm, 1)))


def judge(run: Run, epoch: int) -> None:
    """Score the epoch on the validation part and keep the best; too small a part chooses nothing."""
    run.judged = epoch
    if not len(run.val):
        return
    odds, y = evaluate(run, run.val)
    score, loss = balanced_accuracy(odds, y), F.nll_loss(odds.clamp_min(1e-12).log(), y).item()
    run.log(val_balanced_accuracy=score, val_loss=loss, val_acc1=(odds.argmax(1) == y).double().mean().item())
    run.say(f"epoch {epoch}/{run.args.epochs}: validation balanced accuracy {score:.3f}, loss {loss:.3f}")
    now, best = (score, -loss), (run.best.get("score", -1.0), -run.best.get("loss", 0.0))
    if run.data.val_chooses and now > best:
        run.best = {"epoch": epoch, "step": run.step, "score": score, "loss": loss}
        save_best(run)


def out_of_patience(run: Run) -> bool:
    stale = run.judged - run.best.get("epoch", run.judged)
    if run.args.patience and stale >= run.args.patience and run.step % run.steps_an_epoch == 0:
        run.say(f"stopped early: no better epoch in {stale}")
        return True
    return False


@torch.inference_mode()
def evaluate(run: Run, batches: Batches) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, C) probabilities and (N,) labels; each process looks at its share."""
    run.model.eval()
    rank, size, device = run.world.rank, run.world.size, run.world.device
    own = []
    for x, _ in batches.plain(64, run.args.workers, slice(rank, None, size)):
        with run.autocast():
            logits = functional_call(run.model, run.ema, (normalised(x, batches.look, device),))
        own.append(logits.float().softmax(1))
    odds = torch.zeros(len(batches), batches.classes, device=device)
    odds[rank::size] = torch.cat(own) if own else odds[rank::size]
    y = torch.tensor([p.label for p in batches.pictures])
    return parallel.total(run.world, odds).cpu().clone(), y


if __name__ == "__main__":
    args = settings.settings(__doc__)
    count = max(torch.cuda.device_count(), 1) if args.processes == "auto" else args.processes
    if count > 1 and not processes.one_of_several():
        sys.exit(processes.run_several(count))
    try:
        main(args)
    except FloatingPointError as error:
        sys.exit(f"{error}: stopped. The last checkpoint is from before; try a lower --lr")
    except torch.OutOfMemoryError:
        sys.exit("out of memory with one picture at once: try a smaller --size or another --arch")
    except OSError as error:
        sys.exit(f"cannot go on: {error}")
