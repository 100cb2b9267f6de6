"""What a run leaves: the model, the report with its baselines, and the last line of its log."""

import hashlib
from dataclasses import asdict

import torch
from safetensors.torch import save_file

import common
import probes
import report
import unlike
from batches import Batches
from networks import build, features, save_model
from run import Run, on
from weights import licence


def write(run: Run, finetuned: torch.Tensor) -> None:
    """The model first: whatever comes after can be made again."""
    args, out = run.args, run.args.out
    save_model(out, run.model.eval(), run.data.labels, run.train.look, args.arch, str(args.weights))
    result = gather(run, finetuned)
    save_unlike(run)
    run.log(**report.write(out, result))
    if run.writer:
        run.writer.close()
    print(report.summary(result))
    print(report.verdict(result))
    print(f"model.safetensors sha256 {sha256(run)}", flush=True)


def gather(run: Run, finetuned: torch.Tensor) -> report.Result:
    data, args, device = run.data, run.args, run.world.device
    C, parts = len(data.labels), data.parts
    torch.manual_seed(args.seed)
    pretrained = on(build(args.arch, C, str(args.weights)), args, device).eval()
    control = probes.random_network(probes.plain_batches(parts["train"], run.train), args, device)
    seen = {
        "raw": probes.raw_pixels(data.all, run.train, args),
        "random": probes.see_once(data.all, control, run.train, args, device),
        "probe": probes.see_once(data.all, pretrained, run.train, args, device),
    }
    odds = {"majority": probes.majority(parts, C)}
    odds |= {method: probes.odds(own, parts, C, run.weight_of) for method, own in seen.items()}
    if args.stage == "finetune":
        odds["finetune"] = finetuned
    del seen["random"]
    tested = parts["test"]
    return report.Result(
        labels=data.labels,
        names=[p.name for p in tested],
        y=torch.tensor([p.label for p in tested]).numpy(),
        odds={method: p.double().numpy() for method, p in odds.items()},
        curve=probes.curve(seen, parts, C, args.seed),
        counts={part: data.counts(part) for part in parts},
        left_out=data.left_out,
        facts=facts(run),
    )


def facts(run: Run) -> dict[str, object]:
    args = run.args
    own = {
        "arch": args.arch, "weights": str(args.weights),
        "weights_licence": licence(args.arch, str(args.weights)), "weights_sha256": run.weights_sha256,
        "data": str(args.data), "data_digest": run.data.digest(), "seed": args.seed,
        "look": asdict(run.train.look), "epochs": args.epochs, "best_epoch": run.best.get("epoch", args.epochs),
        "stage": args.stage, "batch": args.batch, "lr": args.lr, "ema": args.ema, "steps": run.step,
        "size": args.size, "seconds": round(run.seconds, 1), "batch_norms": "frozen" if run.bn_frozen else "trained",
    }  # fmt: skip
    noted = {"note": "; ".join(run.data.notes)} if run.data.notes else {}
    return own | noted | run.place()


def save_unlike(run: Run) -> None:
    """Held-out pictures set the threshold where there are any."""
    x, val = (_features(run, batches) for batches in (run.train, run.val))
    y = torch.tensor([p.label for p in run.train.pictures])
    fitted = unlike.fit(x, y, val if len(val) else None)
    common.write_whole(run.args.out / "unlike.safetensors", lambda to: save_file(fitted, to))


def _features(run: Run, batches: Batches) -> torch.Tensor:
    if not len(batches):
        return torch.zeros(0, 1)
    return probes.see(batches, lambda x: features(run.model, x), run.world.device, run.args.workers)


def sha256(run: Run) -> str:
    return hashlib.sha256((run.args.out / "model.safetensors").read_bytes()).hexdigest()
