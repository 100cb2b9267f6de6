"""Which pictures there are and how they are labelled: from folders, a CSV, or an export of Label Studio."""

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from common import refuse
from opening import SUFFIXES

PATH_COLUMNS = ("path", "file", "image", "filename")
LABEL_COLUMNS = ("label", "class", "choice")
PART_COLUMNS = ("split", "part")
PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
PARTS |= {"dev": "val", "test": "test", "testing": "test", "": ""}
ADDRESS = "an address, not a file: download the pictures first"
OF_LABEL_STUDIO = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}


@dataclass(frozen=True)
class Entry:
    name: str
    source: Path | np.ndarray | None  # None: there is nothing to open
    label: str | None
    part: str = ""
    why_not: str = ""  # why it is left out, where that is known without opening it


def entries(source: Path) -> list[Entry]:
    if source.is_dir():
        lists = [source / name for name in ("labels.csv", "labels.json") if (source / name).is_file()]
        return entries(lists[0]) if lists else list(_folders(source))
    if not source.is_file():
        refuse(f"{shown(source)}: no such file or folder")
    kind = source.suffix.lower()
    if kind in SUFFIXES:
        return [Entry(shown(source.name), source, None)]
    if kind not in (".csv", ".json"):
        refuse(
            f"{shown(source)}: neither a folder of pictures, nor a .csv, nor Label Studio's .json (unpacked)"
        )
    found = _table(source) if kind == ".csv" else list(_label_studio(source, _tasks(source)))
    if found and all(e.why_not for e in found):
        refuse(
            f"{shown(source)}: none of its {len(found)} pictures can be used; {found[0].name}: {found[0].why_not}"
        )
    return found


def shown(name: str | Path) -> str:
    """A name as one line of proper Unicode: what is neither is written as an escape."""
    return "".join(c if c.isprintable() else _escape(c) for c in os.fspath(name))


def _escape(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # how Python keeps a byte of a name that is not UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode()


def _folders(root: Path) -> Iterator[Entry]:
    """`root`/<class>/**; or train, val, test, and the classes in these. Hidden files are passed over."""
    tops = {d.name for d in root.iterdir() if d.is_dir() and not _hidden(d.name)}
    in_parts = "train" in tops and tops <= {"train", "val", "valid", "validation", "test"}
    for folder, below, files in os.walk(root):
        below[:] = sorted(d for d in below if not _hidden(d))
        place = Path(folder).relative_to(root)
        part = PARTS[place.parts[0]] if in_parts and place.parts else ""
        classes = place.parts[1:] if part else place.parts
        label = shown(classes[0]) if classes else None
        if len(classes) == 1 and not any(names for *_, names in os.walk(folder)):
            yield Entry(f"{shown(place.as_posix())}/", None, label, part, "an empty class folder")
        for file in sorted(f for f in files if not _hidden(f)):
            entry = Entry(shown((place / file).as_posix()), Path(folder, file), label, part)
            yield _checked(entry)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _checked(entry: Entry) -> Entry:
    suffix = entry.source.suffix.lower()
    why = "" if suffix in SUFFIXES else f"not a picture ({shown(suffix) or 'no suffix'})"
    return replace(entry, why_not=why or ("" if entry.source.is_file() else "not a file"))


def _table(path: Path) -> list[Entry]:
    text = _text(path)
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
        columns = {(name or "").strip().lower(): name for name in rows.fieldnames or []}
        if columns.keys() & {"annotator", "annotation_id"}:
            return list(_label_studio(path, rows))
        where = next((columns[c] for c in PATH_COLUMNS if c in columns), None)
        label = next((columns[c] for c in LABEL_COLUMNS if c in columns), None)
        part = next((columns[c] for c in PART_COLUMNS if c in columns), None)
        if where is None:
            refuse(f"{shown(path)}: a column {' or '.join(PATH_COLUMNS)} is needed; it has {_names(columns)}")
        return [_row(path, rows.line_num, [row.get(c) or "" for c in (where, label, part)]) for row in rows]
    except csv.Error as error:
        refuse(f"{shown(path)}, line {rows.line_num}: {error}")


def _names(columns: dict[str, str]) -> str:
    return ", ".join(shown(c) for c in columns) or "none"


def _row(table: Path, line: int, values: list[str]) -> Entry:
    where, label, part = (v.strip() for v in values)
    if part.lower() not in PARTS:
        refuse(f"{shown(table)}, line {line}: {shown(part)!r} is no part; it is train, val, test or empty")
    entry = Entry(shown(where), None, shown(label) or None, PARTS[part.lower()])
    if not where:
        return replace(entry, name=f"line {line}", why_not="no path")
    if "://" in where:
        return replace(entry, why_not=ADDRESS)
    for path in (Path(where), Path(where.replace("\\", "/"))):
        if _is_file(table.parent / path):
            return replace(entry, name=shown(path.as_posix()), source=table.parent / path)
    return replace(entry, why_not="no such file")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        refuse(f"{shown(path)}: byte {error.start} is not UTF-8: save it as UTF-8")


def _tasks(path: Path) -> list[dict]:
    try:
        tasks = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        refuse(f"{shown(path)}: no JSON: {error}")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        refuse(f"{shown(path)}: not an export of Label Studio: that is a list of tasks")
    return tasks


def _label_studio(path: Path, tasks: object) -> Iterator[Entry]:
    """One entry a picture. Several annotations count when they agree; one marked as ground truth decides."""
    choices: dict[str, list[tuple[bool, tuple[str, ...]]]] = {}
    for number, task in enumerate(tasks, start=1):
        values = task["data"] if isinstance(task.get("data"), dict) else task
        image = _image(values)
        if image is None:
            refuse(f"{shown(path)}: task {number} has no picture")
        try:
            choices.setdefault(image, []).extend(_choices(task, values, image))
        except (AttributeError, TypeError):
            refuse(f"{shown(path)}: task {number} does not hold annotations as Label Studio writes them")
    for image, given in choices.items():
        truth = [labels for is_truth, labels in given if is_truth] or [labels for _, labels in given]
        yield _annotated(path, image, sorted(set(truth)))


def _annotated(path: Path, image: str, said: list[tuple[str, ...]]) -> Entry:
    source = _found(path.parent, image)
    name = shown(source.relative_to(path.parent).as_posix() if source else image[:200])
    if source is None:
        address = "://" in image or image.startswith("data:")
        return Entry(name, None, None, why_not=ADDRESS if address else "no such file")
    if len(said) > 1 or (said and len(said[0]) > 1):
        words = sorted({shown(label) for labels in said for label in labels})
        what = "its annotations disagree" if len(said) > 1 else "several labels on one picture"
        return Entry(name, source, None, why_not=f"{what}: {', '.join(words)}")
    return Entry(name, source, shown(said[0][0]) if said else None)


def _image(values: dict) -> str | None:
    """The value under a usual name, or else the first that looks like a picture's place."""
    texts = {str(k).lower(): v for k, v in values.items() if isinstance(v, str) and v}
    named = [texts[c] for c in PATH_COLUMNS if c in texts]
    like = [v for v in texts.values() if v.startswith("/data/") or Path(v).suffix.lower() in SUFFIXES]
    return (named + like + [None])[0]


def _choices(task: dict, values: dict, image: str) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """(ground truth?, labels) of each annotation; a cancelled or empty one gives none."""
    annotations = task.get("annotations", task.get("completions"))
    if isinstance(annotations, list):
        for one in annotations:
            results = one.get("result") or [] if not one.get("was_cancelled") else []
            labels = [c for r in results for c in (r.get("value") or {}).get("choices") or []]
            if labels:
                yield bool(one.get("ground_truth")), tuple(sorted(map(str, labels)))
        return
    free = {k: v for k, v in values.items() if k not in OF_LABEL_STUDIO and v and v != image}
    named = [v for k, v in free.items() if k.lower() in LABEL_COLUMNS]
    if labels := _labels((named + list(free.values()) + [None])[0]):
        yield False, labels


def _labels(value: object) -> tuple[str, ...]:
    if isinstance(value, str) and value.lstrip().startswith("{"):  # several choices in a cell of its CSV
        try:
            value = json.loads(value)
        except ValueError:
            return (value,)
    if isinstance(value, dict):
        value = value.get("choices")
    if isinstance(value, list):
        return tuple(sorted(str(v) for v in value))
    return (value.strip(),) if isinstance(value, str) and value.strip() else ()


def _found(folder: Path, image: str) -> Path | None:
    """Beside the export: under the whole path, or ever shorter ends of it, or without the upload's prefix."""
    if image.startswith("data:"):
        return None
    parts = urlsplit(image)
    given = parse_qs(parts.query).get("d", [""])[0] if "local-files" in parts.path else parts.path
    steps = [s for s in unquote(given).split("/") if s not in ("", ".", "..")]
    for i in range(len(steps)):
        end = steps[i:]
        ends = [end, [*end[:-1], end[-1].split("-", 1)[-1]]] if len(end[-1].split("-", 1)[0]) == 8 else [end]
        for base in (folder, folder / "images", folder / "media"):
            for tail in ends:
                if _is_file(base.joinpath(*tail)):
                    return base.joinpath(*tail)
    return None
