"""Labelled pictures of every kind, good and bad, as the jobs read them."""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.inside import Inside, Refused, inside

pytestmark = pytest.mark.timeout(900)  # the first test may have to fetch torch

PAINT = """
import numpy as np
from pathlib import Path
from PIL import Image
for path, seed, how in files:
    spots = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(spots).resize((40, 48), Image.Resampling.BICUBIC).save(path, **how)
"""

READ = """
data = pictures.read(source, **how)
result = {
    "labels": data.labels,
    "pictures": {p.name: None if p.label is None else data.labels[p.label] for p in data.pictures},
    "parts": {p.name: p.part for p in data.pictures},
    "left_out": dict(data.left_out),
}
"""


@pytest.fixture(scope="module")
def run(finetune_python: Path) -> Iterator[Inside]:
    with inside(finetune_python) as python:
        yield python


def paint(run: Inside, *paths: Path, **how: Any) -> None:
    """A picture of its own in each path."""
    seeds = [zlib.crc32(f"{path.parent.name}/{path.stem}".encode()) for path in paths]
    run(PAINT, files=[[path, seed, how] for path, seed in zip(paths, seeds, strict=True)])


def read(run: Inside, source: Path, **how: Any) -> dict[str, Any]:
    found: dict[str, Any] = run(READ, source=source, how=how)
    return found


@pytest.fixture
def cats_and_dogs(run: Inside, tmp_path: Path) -> Path:
    paint(run, *(tmp_path / kind / f"{kind}-{i}.png" for kind in ("cat", "dog") for i in range(3)))
    return tmp_path


def test_a_folder_a_class_is_read_and_its_pictures_are_named_below_it(
    run: Inside, cats_and_dogs: Path
) -> None:
    paint(run, cats_and_dogs / "cat" / "deep" / "er.JPG")
    found = read(run, cats_and_dogs)
    assert found["labels"] == ["cat", "dog"]
    assert found["pictures"]["cat/deep/er.JPG"] == "cat"
    assert len(found["pictures"]) == 7
    assert found["left_out"] == {}


def test_an_empty_class_is_left_out_and_named(run: Inside, cats_and_dogs: Path) -> None:
    (cats_and_dogs / "eel").mkdir()
    (cats_and_dogs / "fox").mkdir()
    (cats_and_dogs / "fox" / "only.txt").write_text("no fox")
    found = read(run, cats_and_dogs)
    assert found["labels"] == ["cat", "dog"]
    assert found["left_out"]["eel/"] == "an empty class folder"
    assert found["left_out"]["fox/only.txt"] == "not a picture (.txt)"
    assert found["left_out"]["fox"] == "a class without a readable picture"


def test_a_single_image_is_no_dataset(run: Inside, tmp_path: Path) -> None:
    paint(run, tmp_path / "cat" / "a.png")
    with pytest.raises(Refused, match="needs readable pictures of two classes or more; found only 'cat'"):
        read(run, tmp_path)
    paint(run, tmp_path / "dog" / "b.png")
    split = "p = pictures.read(source).pictures\npictures.split(p, pictures.group_duplicates(p), (0, 0.5), 0)"
    with pytest.raises(Refused, match=r"the class of cat/a.png has nothing to test on \(pictures: 1"):
        run(split, source=tmp_path)


def test_what_is_not_there_or_no_set_of_pictures_is_refused(run: Inside, tmp_path: Path) -> None:
    (tmp_path / "pictures.zip").write_bytes(b"PK")
    with pytest.raises(Refused, match=r"nowhere: no such file or folder"):
        read(run, tmp_path / "nowhere")
    with pytest.raises(Refused, match=r"pictures.zip: neither a folder"):
        read(run, tmp_path / "pictures.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="two classes or more; found none"):
        read(run, tmp_path / "empty")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tif"])
def test_a_truncated_picture_is_left_out_and_named(run: Inside, cats_and_dogs: Path, suffix: str) -> None:
    broken = cats_and_dogs / "cat" / f"broken.{suffix}"
    paint(run, broken)
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    (cats_and_dogs / "dog" / f"nothing.{suffix}").touch()
    found = read(run, cats_and_dogs)
    assert set(found["left_out"]) == {f"cat/broken.{suffix}", f"dog/nothing.{suffix}"}
    assert all(why and "\n" not in why for why in found["left_out"].values())


def test_a_file_of_thirty_thousand_pixels_is_refused_before_it_is_decoded(
    run: Inside, cats_and_dogs: Path
) -> None:
    make = "from PIL import Image\nfor size, path in files: Image.new('1', size).save(path)"
    squares = [
        [(30_000, 30_000), cats_and_dogs / "cat" / "bomb.png"],
        [(10_000, 9_000), cats_and_dogs / "dog" / "b.png"],
    ]
    run(make, files=squares)
    found = read(run, cats_and_dogs)
    assert "decompression bomb" in found["left_out"]["cat/bomb.png"]
    assert "10,000 x 9,000" in found["left_out"]["dog/b.png"]


MODES = """
import numpy as np
from PIL import Image
from pathlib import Path
ramp = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (64, 1))
grey, clear = Image.fromarray(ramp), Image.fromarray(np.repeat([255, 0], 32).astype(np.uint8)[:, None].repeat(64, 1))
half = {"RGBA": Image.merge("RGBA", [grey] * 3 + [clear]), "LA": Image.merge("LA", [grey, clear])}
half["P"] = half["RGBA"].quantize(64)
half["tRNS"] = Image.fromarray(ramp)
half["tRNS"].info["transparency"] = 0
whole = {"1": grey.convert("1"), "L": grey, "CMYK": Image.merge("RGB", [grey] * 3).convert("CMYK")}
whole["I;16"] = Image.fromarray(ramp.astype(np.uint16) * 257)
whole["F"] = Image.fromarray(ramp.astype(np.float32) / 255)
folder, result = Path(folder), {}
for name, image in (whole | half).items():
    path = folder / f"{name.replace(';', '')}.{'tif' if name in ('CMYK', 'F') else 'png'}"
    image.save(path, **({"transparency": 0} if name == "tRNS" else {}))
    seen = pictures.open_picture(path)
    pixels = np.asarray(seen).astype(int)
    result[name] = [seen.mode, pixels[:32].mean() - ramp[:32].mean(), pixels[32:].mean(), pixels[60, 3].tolist()]
"""


def test_every_colour_mode_becomes_rgb_as_bright_as_it_was_and_white_where_transparent(
    run: Inside, tmp_path: Path
) -> None:
    seen = run(MODES, folder=tmp_path)
    assert {mode for mode, *_ in seen.values()} == {"RGB"}
    assert all(abs(off) < 3 for name, (_, off, *_) in seen.items() if name != "tRNS"), seen
    for name in ("RGBA", "LA", "P"):
        assert seen[name][2] == 255, name  # the lower half was clear
    for name in ("L", "CMYK", "I;16", "F", "1"):
        assert 120 < seen[name][2] < 135, name
    assert seen["tRNS"][2] > seen["L"][2]  # its black is clear


def test_sixteen_bits_are_scaled_and_not_clipped(run: Inside, tmp_path: Path) -> None:
    code = """
import numpy as np
from PIL import Image
Image.fromarray(np.array([[0, 257, 25700, 65535]], np.uint16)).save(path)
result = np.asarray(pictures.open_picture(path))[0, :, 0].tolist()
"""
    assert run(code, path=tmp_path / "deep.png") == [0, 1, 100, 255]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_counts(run: Inside, tmp_path: Path, suffix: str) -> None:
    code = """
from PIL import Image
red, blue = (Image.new("RGB", (20, 20), c) for c in ("red", "blue"))
red.save(path, save_all=True, append_images=[blue, blue], duration=50, **({"lossless": True} if lossless else {}))
result = [Image.open(path).n_frames, pictures.open_picture(path).getpixel((5, 5))]
"""
    frames, colour = run(code, path=tmp_path / f"moves.{suffix}", lossless=suffix == "webp")
    assert frames > 1
    assert colour == [255, 0, 0]


def test_a_photograph_is_turned_as_its_camera_says(run: Inside, tmp_path: Path) -> None:
    code = """
from PIL import Image
exif = Image.Exif()
exif[0x0112] = 6
Image.new("RGB", (40, 20)).save(path, exif=exif)
result = pictures.open_picture(path).size
"""
    assert run(code, path=tmp_path / "turned.jpg") == [20, 40]


def test_names_that_are_not_unicode_or_hold_odd_characters_are_read_and_shown_in_one_line(
    run: Inside, cats_and_dogs: Path
) -> None:
    odd = [
        b"not-\xff-utf8.png",
        b"new\nline.png",
        b"quote\"'<b>.png",
        "käse-\u202egnp.png".encode(),
        b"-rf *.png",
    ]
    plain = sorted((cats_and_dogs / "cat").iterdir())
    paint(run, *(cats_and_dogs / "x" / f"{i}.png" for i in range(len(odd))))
    for i, name in enumerate(odd):
        os.rename(cats_and_dogs / "x" / f"{i}.png", os.path.join(os.fsencode(plain[0].parent), name))
    (cats_and_dogs / "x").rmdir()
    found = read(run, cats_and_dogs)
    assert len(found["pictures"]) == 6 + len(odd)
    for name in (
        r"cat/not-\xff-utf8.png",
        r"cat/new\nline.png",
        "cat/quote\"'<b>.png",
        r"cat/käse-\u202egnp.png",
    ):
        assert found["pictures"][name] == "cat"


def test_of_equal_files_one_is_kept_and_two_labels_for_one_are_refused(
    run: Inside, cats_and_dogs: Path
) -> None:
    first = cats_and_dogs / "cat" / "cat-0.png"
    (cats_and_dogs / "cat" / "copy.png").write_bytes(first.read_bytes())
    found = read(run, cats_and_dogs)
    assert found["left_out"] == {"cat/copy.png": "the same file as cat/cat-0.png"}
    (cats_and_dogs / "dog" / "cat.png").write_bytes(first.read_bytes())
    with pytest.raises(
        Refused, match=r"cat/cat-0.png \(cat\) and dog/cat.png \(dog\) are one picture with two labels"
    ):
        read(run, cats_and_dogs)


def test_pictures_outside_of_a_class_are_left_out_unless_they_are_asked_for(
    run: Inside, cats_and_dogs: Path
) -> None:
    paint(run, cats_and_dogs / "who.png")
    assert read(run, cats_and_dogs)["left_out"] == {"who.png": "unlabelled"}
    assert read(run, cats_and_dogs, unlabelled=True)["pictures"]["who.png"] is None


def test_folders_named_train_and_test_are_parts_and_not_classes(run: Inside, tmp_path: Path) -> None:
    paint(
        run,
        *(tmp_path / part / kind / f"{part}{kind}.png" for part in ("train", "test") for kind in ("a", "b")),
    )
    found = read(run, tmp_path)
    assert found["labels"] == ["a", "b"]
    assert found["parts"]["test/b/testb.png"] == "test"


def rows(path: Path, *lines: str, start: bytes = b"", end: str = "\n") -> Path:
    path.write_bytes(start + "".join(line + end for line in lines).encode())
    return path


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"start": b"\xef\xbb\xbf"},
        {"between": ";"},
        {"between": "\t"},
        {"head": ("Image", "Class", "SPLIT")},
        {"head": (" file ", "label", "part")},
        {"end": "\r\n"},
    ],
)
def test_a_csv_of_any_usual_kind_is_read(run: Inside, cats_and_dogs: Path, how: dict[str, Any]) -> None:
    between = how.get("between", ",")
    lines = [between.join(how.get("head", ("path", "label", "split")))]
    for kind, part in (("cat", "train"), ("dog", "Test")):
        lines.append(between.join([f"{kind}/{kind}-1.png", f" {kind} ", part]))
    table = rows(cats_and_dogs / "own.csv", *lines, start=how.get("start", b""), end=how.get("end", "\n"))
    found = read(run, table)
    assert found["pictures"] == {"cat/cat-1.png": "cat", "dog/dog-1.png": "dog"}
    assert found["parts"] == {"cat/cat-1.png": "train", "dog/dog-1.png": "test"}


def test_a_csv_names_what_is_missing_in_it(run: Inside, cats_and_dogs: Path) -> None:
    table = rows(
        cats_and_dogs / "labels.csv",
        *(
            "path,label",
            "cat/cat-0.png,cat",
            "dog/dog-0.png,dog",
            "cat/gone.png,cat",
            "cat/cat-1.png,",
            ",cat",
        ),
        *("https://example.org/a.png,dog", "own.txt,cat"),
    )
    (cats_and_dogs / "own.txt").write_text("words")
    found = read(run, cats_and_dogs)  # a labels.csv in a folder decides
    assert sorted(found["pictures"]) == ["cat/cat-0.png", "dog/dog-0.png"]
    assert found["left_out"]["cat/gone.png"] == "no such file"
    assert found["left_out"]["cat/cat-1.png"] == "unlabelled"
    assert found["left_out"]["line 6"] == "no path"
    assert found["left_out"]["own.txt"] == "not a picture that can be read"
    assert "download" in found["left_out"]["https://example.org/a.png"]
    rows(table, "path,label", "gone.png,cat", "gone2.png,dog")
    with pytest.raises(
        Refused, match=r"labels.csv: none of its 2 pictures can be used; gone.png: no such file"
    ):
        read(run, table)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            b"name,label\na.png,cat\n",
            "a column path or file or image or filename is needed; it has name, label",
        ),
        (b"", "is needed; it has none"),
        (b"path,label\ncat/cat-0.png,caf\xe9\n", "byte 28 is not UTF-8"),
        (b"path,label,split\ncat/cat-0.png,cat,somewhere\n", "line 2: 'somewhere' is no part"),
        (b"path,label\n" + b"x" * 200_000 + b",cat\n", "field larger than field limit"),
        (b"path,label\ncat/cat-0.png,cat\ncat/cat-0.png,dog\n", "are one picture with two labels"),
    ],
)
def test_a_bad_csv_is_refused_in_one_line(
    run: Inside, cats_and_dogs: Path, content: bytes, line: str
) -> None:
    (cats_and_dogs / "bad.csv").write_bytes(content)
    with pytest.raises(Refused) as refused:
        read(run, cats_and_dogs / "bad.csv")
    assert line in str(refused.value)
    assert str(refused.value).count("\n") == 1


def task(image: str, *choices: list[str], **more: Any) -> dict[str, Any]:
    """A task of Label Studio's full export: one list of choices for each annotation."""
    results = [
        [{"type": "choices", "from_name": "kind", "value": {"choices": c}}] if c else [] for c in choices
    ]
    annotations = [{"was_cancelled": False, "result": result} for result in results]
    return {"id": 1, "data": {"image": image}, "annotations": annotations, "predictions": []} | more


def test_label_studios_full_export_is_read(run: Inside, cats_and_dogs: Path) -> None:
    paint(run, cats_and_dogs / "0a1b2c3d-up.png")
    cancelled = task("cat/cat-2.png", ["dog"])
    cancelled["annotations"][0]["was_cancelled"] = True
    truth = task("dog/dog-2.png", ["cat"], ["dog"])
    truth["annotations"][1]["ground_truth"] = True
    tasks = [
        task("/data/local-files/?d=somewhere/else/cat/cat-0.png", ["cat"]),
        task("/data/upload/7/0a1b2c3d-up.png", ["dog"], ["dog"]),
        task("https://label.example/pictures/dog/dog-0.png", ["dog"]),
        task("/data/upload/7/deadbeef-dog-1.png", ["cat"], ["dog"]),
        task("cat/cat-1.png", ["cat", "dog"]),
        cancelled,
        truth,
        task("s3://bucket/none.png", ["cat"]),
        task("/data/upload/7/gone.png", ["cat"]),
        task("/data/local-files/?d=../../../../../etc/passwd", ["cat"]),
    ]
    (cats_and_dogs / "dog-1.png").write_bytes((cats_and_dogs / "dog" / "dog-1.png").read_bytes())
    export = cats_and_dogs / "export.json"
    export.write_text(json.dumps(tasks))
    found = read(run, export)
    of = {"cat/cat-0.png": "cat", "0a1b2c3d-up.png": "dog", "dog/dog-0.png": "dog", "dog/dog-2.png": "dog"}
    assert found["pictures"] == of
    left_out = found["left_out"]
    assert left_out["dog-1.png"] == "its annotations disagree: cat, dog"
    assert left_out["cat/cat-1.png"] == "several labels on one picture: cat, dog"
    assert left_out["cat/cat-2.png"] == "unlabelled"
    assert "download" in left_out["s3://bucket/none.png"]
    assert left_out["/data/upload/7/gone.png"] == "no such file"
    assert len(left_out) == 6


def test_label_studios_json_min_is_read(run: Inside, cats_and_dogs: Path) -> None:
    short = [
        {"image": "cat/cat-0.png", "id": 1, "kind": "cat", "annotator": 1, "created_at": "2026-01-01"},
        {"image": "dog/dog-0.png", "id": 2, "kind": "dog", "annotator": 1},
        {"image": "dog/dog-0.png", "id": 2, "kind": "cat", "annotator": 2},
        {"image": "dog/dog-1.png", "id": 3, "kind": "dog", "annotator": 1},
        {"image": "dog/dog-2.png", "id": 4, "annotator": 1},
        {"image": "cat/cat-1.png", "id": 5, "kind": {"choices": ["cat", "dog"]}},
    ]
    (cats_and_dogs / "labels.json").write_text(json.dumps(short))
    found = read(run, cats_and_dogs)
    assert found["pictures"] == {"cat/cat-0.png": "cat", "dog/dog-1.png": "dog"}
    assert found["left_out"]["dog/dog-0.png"] == "its annotations disagree: cat, dog"
    assert found["left_out"]["dog/dog-2.png"] == "unlabelled"
    assert found["left_out"]["cat/cat-1.png"] == "several labels on one picture: cat, dog"


def test_label_studios_csv_is_read(run: Inside, cats_and_dogs: Path) -> None:
    table = rows(
        cats_and_dogs / "export.csv",
        "image,id,choice,annotator,annotation_id,created_at,updated_at,lead_time",
        "/data/local-files/?d=cat/cat-0.png,1,cat,1,1,2026-01-01,2026-01-01,3.1",
        "dog/dog-0.png,2,dog,1,2,2026-01-01,2026-01-01,3.1",
        'dog/dog-1.png,3,"{""choices"": [""cat"", ""dog""]}",1,3,2026-01-01,2026-01-01,3.1',
        "dog/dog-2.png,4,,1,4,2026-01-01,2026-01-01,3.1",
    )
    found = read(run, table)
    assert found["pictures"] == {"cat/cat-0.png": "cat", "dog/dog-0.png": "dog"}
    assert found["left_out"]["dog/dog-1.png"] == "several labels on one picture: cat, dog"
    assert found["left_out"]["dog/dog-2.png"] == "unlabelled"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"images": []}', "a list of tasks"),
        ("[3]", "a list of tasks"),
        ('[{"data": {"text": "words"}}]', "task 1 has no picture"),
        ('[{"data": {"image": "a.png"}, "annotations": [3]}]', "task 1"),
        ("[]", "two classes or more; found none"),
    ],
)
def test_a_json_that_is_no_such_export_is_refused_in_one_line(
    run: Inside, tmp_path: Path, content: str, line: str
) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(Refused) as refused:
        read(run, tmp_path / "bad.json")
    assert line in str(refused.value)
    assert str(refused.value).count("\n") == 1


SPLIT = """
import random
data = pictures.read(source)
found = random.Random(order).sample(data.pictures, len(data.pictures))
parts = pictures.split(found, pictures.group_duplicates(found), shares, seed)
result = {part: sorted(p.name for p in getattr(parts, part)) for part in ("train", "val", "test")}
result["notes"] = parts.notes
"""


@pytest.fixture
def many(run: Inside, tmp_path: Path) -> Path:
    paint(run, *(tmp_path / kind / f"{kind}{i}.png" for kind in ("cat", "dog") for i in range(20)))
    return tmp_path


def test_the_split_is_a_function_of_seed_and_content(run: Inside, many: Path) -> None:
    how = {"source": many, "shares": [0.1, 0.2]}
    first = run(SPLIT, order=1, seed=0, **how)
    assert [len(first[part]) for part in ("train", "val", "test")] == [28, 4, 8]
    assert sum(name.startswith("cat") for name in first["test"]) == 4
    assert run(SPLIT, order=2, seed=0, **how) == first
    assert run(SPLIT, order=1, seed=1, **how) != first
    for file in (many / "cat").iterdir():
        file.rename(file.with_name(f"renamed-{file.name}"))
    renamed = run(SPLIT, order=1, seed=0, **how)
    assert [name.replace("renamed-", "") for name in renamed["test"]] == first["test"]


def test_near_duplicates_stay_in_one_part(run: Inside, many: Path) -> None:
    again = """
from PIL import Image
for i in range(20):
    image = Image.open(f"{folder}/cat/cat{i}.png")
    image.resize((90, 110), Image.Resampling.BICUBIC).save(f"{folder}/cat/cat{i}-again.jpg", quality=70)
"""
    run(again, folder=many)
    for seed in range(3):
        parts = run(SPLIT, source=many, order=0, seed=seed, shares=[0.2, 0.3])
        of = {name: part for part, names in parts.items() for name in names}
        assert all(of[f"cat/cat{i}.png"] == of[f"cat/cat{i}-again.jpg"] for i in range(20))


def test_the_parts_of_a_csv_win_and_a_near_duplicate_follows(run: Inside, many: Path) -> None:
    lines = [f"{kind}/{kind}{i}.png,{kind},{part}" for kind in ("cat", "dog")
             for i, part in enumerate(["test"] * 5 + ["train"] * 10 + [""] * 5)]  # fmt: skip
    run("from PIL import Image\nImage.open(f'{f}/cat/cat0.png').save(f'{f}/near.jpg')", f=many)
    table = rows(many / "own.csv", "path,label,split", *lines, "near.jpg,cat,")
    parts = run(SPLIT, source=table, order=0, seed=0, shares=[0.4, 0.2])
    assert parts["test"] == sorted(
        [f"{k}/{k}{i}.png" for k in ("cat", "dog") for i in range(5)] + ["near.jpg"]
    )
    assert len(parts["val"]) == 4
    assert len(parts["train"]) == 26


def test_a_class_whose_pictures_are_all_alike_is_split_all_the_same_with_a_note(
    run: Inside, many: Path
) -> None:
    for file in list((many / "dog").iterdir())[1:]:
        file.unlink()
    (kept,) = (many / "dog").iterdir()
    code = "from PIL import Image\nfor q in (70, 80, 90): Image.open(path).save(f'{path}.{q}.jpg', quality=q)"
    run(code, path=kept)
    parts = run(SPLIT, source=many, order=0, seed=0, shares=[0, 0.5])
    assert [sum("dog/" in name for name in parts[part]) for part in ("train", "test")] == [2, 2]
    (note,) = parts["notes"]
    assert "the 4 pictures of the class of dog/" in note
    assert "split picture by picture" in note


@pytest.mark.parametrize(
    "draw",
    [
        "numpy.kron(random.integers(0, 256, (16, 1, 1)), numpy.ones((4, 64, 3)))",
        "numpy.kron(random.integers(0, 256, (1, 16, 1)), numpy.ones((64, 4, 3)))",
        "random.integers(0, 120, (64, 64, 3)) + numpy.array([130, 0, 0])",
        "random.integers(0, 256, 3) * numpy.ones((64, 64, 3))",
    ],
)
def test_simple_figures_that_differ_are_no_near_duplicates(run: Inside, draw: str) -> None:
    code = f"""
import numpy
random = numpy.random.default_rng(0)
result = []
for i in range(12):
    pixels = numpy.asarray({draw}).astype(numpy.uint8)
    result.append(pictures.Picture(str(i), 0, str(i), pixels))
result = pictures.group_duplicates(result)
"""
    assert len(set(run(code))) >= 10


def test_reading_with_several_threads_finds_the_same(run: Inside, many: Path) -> None:
    assert read(run, many, threads=4) == read(run, many)


def test_the_small_set_that_comes_with_the_environment_is_read(run: Inside) -> None:
    found = read(run, Path("lfw"))
    assert found["labels"] == ["face", "other"]
    assert list(found["pictures"].values()).count("face") == 100
