"""Is this set of pictures worth GPU time? Looks for what makes training useless, and says what to do about it.

    python validate.py                              # 200 patches out of scikit-image
    python validate.py --data DIR                   # DIR/<class>/*.jpg, a CSV, an export of Label Studio
    python validate.py --data DIR --max-imbalance 50 --min-per-class 5
    python validate.py --data DIR --judge no        # without a network: seconds instead of minutes

Writes to --out: report/index.html (one page, nothing to fetch), report/report.json, report/label_next.csv
and report/doubts.csv. Every gate is one line here; status 1 when one fails, 0 when all pass. No picture is
ever changed or deleted.

Under `launcher` settings come from $LAUNCHER_PARAMS and pictures from $LAUNCHER_DATA/pictures, if it is there.
"""

import argparse
import csv
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).resolve().parents[1]))  # shared parts: one folder up by hand, else here

from common import arguments, at_home, given, write_whole
from findings import Finding, Item, Limits, counts, findings, modes, near_across, sizes, unique
from findings_page import findings_page
from gates import Gate, add_flags, gates
from pictures import Dataset, Picture, gather, shown

if TYPE_CHECKING:
    from doubts import Doubt, Next


def settings() -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter, allow_abbrev=False)
    add = parser.add_argument
    add(
        "--data",
        default=given("pictures") or "lfw",
        help="a folder, a CSV, an export of Label Studio, or lfw",
    )
    add("--out", type=Path, default=os.environ.get("LAUNCHER_OUT", "out"))
    add("--judge", choices=["yes", "no"], default="yes", help="doubt labels by a pretrained network")
    add("--arch", default="efficientnet_lite0", help="the network, of which a package has the weights")
    add("--size", type=int, default=128, help="side of the pictures that the network sees")
    add("--at-most", type=int, default=20_000, help="pictures that the network looks at")
    add("--tiny", type=int, default=16, help="pixels of the shorter side: fewer is tiny")
    add("--blank", type=float, default=0.5, help="grey levels of standard deviation: fewer is blank")
    add("--threads", type=int, default=2, help="that open pictures")
    add_flags(parser)
    return parser.parse_args(arguments())


@dataclass(frozen=True)
class Report:
    """All that the page and the JSON tell."""

    source: str
    data: Dataset
    gates: list[Gate]
    findings: list[Finding]
    doubts: "list[Doubt]" = field(default_factory=list)
    label_next: "list[Next]" = field(default_factory=list)
    judged: int = 0  # labelled pictures that the network judged
    why_not_judged: str = ""

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)


def main(args: argparse.Namespace) -> int:
    data = gather(args.data, args.threads)
    print(
        f"{len(data.pictures)} pictures, {len(data.labels)} classes, {len(data.left_out)} left out",
        flush=True,
    )
    limits = Limits(args.tiny, args.blank)
    found = findings(data, limits)
    report = Report(shown(args.data), data, [], found)
    report = judge(report, args)
    doubted = len(report.doubts) / report.judged if report.judged else None
    report = dataclasses.replace(report, gates=gates(vars(args), data, found, doubted))
    write(args.out / "report", report, near_across(data, limits))
    for gate in report.gates:
        print(f"{'ok  ' if gate.passed else 'FAIL'} {gate.line}")
    failed = sum(not gate.passed for gate in report.gates)
    print(
        f"{failed} of {len(report.gates)} gates failed" if failed else "All gates passed: worth training on."
    )
    print(f"{at_home(args.out, 'report/index.html')} shows what was found and what to do next")
    return 1 if failed else 0


def judge(report: Report, args: argparse.Namespace) -> Report:
    """What the network doubts, and what it would like to have labelled."""
    pictures = unique(report.data.pictures)
    classes = {p.label for p in pictures if p.label is not None}
    if args.judge == "no":
        return dataclasses.replace(report, why_not_judged="it was not asked for (judge: no)")
    if len(classes) < 2:
        return dataclasses.replace(report, why_not_judged="that takes two classes with pictures")
    import doubts  # torch takes seconds to import, and without a judge it is not needed

    if len(pictures) > args.at_most:
        print(f"the network looks at {args.at_most} of {len(pictures)} pictures (--at-most)", flush=True)
        pictures = sorted(pictures, key=lambda p: p.sha256)[: args.at_most]  # by content: a fair draw
    seen = doubts.see(pictures, args.arch, args.size, told(len(pictures)))
    odds, has = doubts.judged(seen)
    if not has.any():
        return dataclasses.replace(report, why_not_judged="too few different pictures")
    found, next_ones = doubts.doubts(seen, odds, has), doubts.label_next(seen, odds, has)
    return dataclasses.replace(report, doubts=found, label_next=next_ones, judged=int(has.sum()))


def told(n: int) -> Callable[[int], None]:
    """A line now and then."""

    def progress(done: int) -> None:
        if done % 1024 == 0:
            print(f"the network has seen {done} of {n} pictures", flush=True)

    return progress


def write(folder: Path, report: Report, near_pairs: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(as_json(report) | {"near_pairs_across_classes": near_pairs}, indent=1) + "\n"
    write_whole(folder / "report.json", lambda path: path.write_text(content, encoding="utf-8"))
    write_whole(folder / "index.html", lambda path: path.write_text(findings_page(report), encoding="utf-8"))
    labels = report.data.labels
    rows = [[d.picture.name, own(report, d.picture), labels[d.other], *odds(d)] for d in report.doubts]
    write_table(
        folder / "doubts.csv", ["picture", "label", "rather", "odds_of_label", "odds_of_rather"], rows
    )
    rows = [[x.picture.name, labels[x.best], labels[x.second], f"{x.margin:.4f}"] for x in report.label_next]
    write_table(folder / "label_next.csv", ["picture", "perhaps", "or", "margin"], rows)


def write_table(path: Path, head: list[str], rows: Sequence[list[str]]) -> None:
    def fill(to: Path) -> None:
        with open(to, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *rows])

    write_whole(path, fill)


def own(report: Report, picture: Picture) -> str:
    return "" if picture.label is None else report.data.labels[picture.label]


def odds(doubt: "Doubt") -> tuple[str, str]:
    return f"{doubt.own_odds:.4f}", f"{doubt.other_odds:.4f}"


def as_json(report: Report) -> dict[str, object]:
    labels = report.data.labels

    def item(one: Item) -> dict[str, object]:
        return {"pictures": [p.name for p in one.pictures] or [one.name], "note": one.note}

    return {
        "schema": 1,
        "source": report.source,
        "passed": report.passed,
        "pictures": len(report.data.pictures),
        "classes": counts(report.data),
        "modes": modes(report.data),
        "sizes": sizes(report.data),
        "gates": [dataclasses.asdict(gate) for gate in report.gates],
        "findings": [
            {
                "key": f.key,
                "title": f.title,
                "next": f.next,
                "count": len(f.items),
                "items": [*map(item, f.items)],
            }
            for f in report.findings
        ],
        "judged": report.judged,
        "why_not_judged": report.why_not_judged,
        "doubts": [
            {"picture": d.picture.name, "label": own(report, d.picture), "rather": labels[d.other]}
            | dict(zip(("odds_of_label", "odds_of_rather"), map(float, odds(d)), strict=True))
            for d in report.doubts
        ],
        "label_next": [
            {"picture": x.picture.name, "perhaps": labels[x.best], "or": labels[x.second]}
            | {"margin": round(x.margin, 4)}
            for x in report.label_next
        ],
    }


if __name__ == "__main__":
    sys.exit(main(settings()))
