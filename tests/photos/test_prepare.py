import hashlib
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.errors import InputError, SettingError, StorageError
from pipeline.photos.inspection import inspect
from pipeline.photos.manifest import Manifest, read
from pipeline.photos.prepare import prepare
from pipeline.photos.sample_sheet import _samples
from pipeline.photos.settings import PrepareSettings
from tests.photos.pooled import crash_on_marked, fail_on_marked

COLOURS = [(i % 256, i // 256, 90) for i in range(400)]  # distinct


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Most tests do without the pictures, which take longest; those that want them ask for `drawn`."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("pipeline.photos.prepare.draw", lambda *_: None)


@pytest.fixture(autouse=True)
def most_decode_here(request):
    """Most tests decode in this process; those that want others ask for `processes`."""
    if "processes" not in request.fixturenames:
        request.getfixturevalue("decoded_here")


@pytest.fixture
def processes():
    pass


def encoded(colour=(200, 30, 30), *, size=(8, 6), kind="PNG", mode="RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def put(root: Path, path: str, data: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)


def photos(root: Path, *, each: int = 30, classes=("cats", "dogs")) -> Path:
    """Make small distinct images, `each` of them a class."""
    for place, label in enumerate(classes):
        for i in range(each):
            put(root, f"{label}/{i:03}.png", encoded(COLOURS[place * each + i]))
    return root


def run(root: Path, out: Path, **options):
    chosen = {"val_fraction": 0.2, "workers": 2, **options}
    progress = chosen.pop("progress", lambda *_: None)
    return prepare(root, out / "manifest.csv", PrepareSettings(**chosen), progress=progress)


def quarantine(out: Path) -> list[str]:
    return (out / "quarantine.csv").read_text(encoding="utf-8").splitlines()


def by_path(manifest: Manifest) -> dict[str, tuple[str, str]]:
    return dict(zip(manifest.paths, zip(manifest.labels, manifest.splits, strict=True), strict=True))


# --- one image


def test_an_image_is_described_by_digest_upright_size_and_format(tmp_path):
    data = encoded(size=(7, 5))
    put(tmp_path, "x.png", data)
    assert inspect(str(tmp_path / "x.png")) == (hashlib.sha256(data).digest(), 7, 5, "PNG")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees to see it upright
    return encoded(size=(40, 20), kind="JPEG", exif=exif)


def animated(kind: str) -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (9, 4), colour) for colour in ("red", "green", "blue")]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def sixteen_bits() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 9), 40_000, np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encoded(size=(9, 4), kind="JPEG"), (9, 4, "JPEG"), id="jpeg"),
        pytest.param(encoded(size=(9, 4), kind="WEBP"), (9, 4, "WEBP"), id="webp"),
        pytest.param(encoded(size=(9, 4), kind="BMP"), (9, 4, "BMP"), id="bmp"),
        pytest.param(encoded(size=(9, 4), kind="GIF"), (9, 4, "GIF"), id="gif"),
        pytest.param(encoded(size=(9, 4), kind="TIFF"), (9, 4, "TIFF"), id="tiff"),
        pytest.param(encoded(size=(9, 4), kind="AVIF"), (9, 4, "AVIF"), id="avif"),
        pytest.param(encoded(size=(9, 4), mode="P"), (9, 4, "PNG"), id="palette png"),
        pytest.param(encoded(size=(9, 4), kind="BMP", mode="P"), (9, 4, "BMP"), id="palette bmp"),
        pytest.param(encoded(size=(9, 4), mode="RGBA"), (9, 4, "PNG"), id="alpha"),
        pytest.param(encoded(size=(9, 4), mode="L"), (9, 4, "PNG"), id="grey"),
        pytest.param(encoded(size=(9, 4), mode="1"), (9, 4, "PNG"), id="one bit"),
        pytest.param(sixteen_bits(), (9, 4, "PNG"), id="16 bits"),
        pytest.param(encoded(size=(9, 4), kind="JPEG", mode="CMYK"), (9, 4, "JPEG"), id="cmyk"),
        pytest.param(animated("GIF"), (9, 4, "GIF"), id="animated gif"),
        pytest.param(animated("WEBP"), (9, 4, "WEBP"), id="animated webp"),
        pytest.param(turned(), (20, 40, "JPEG"), id="exif turned"),
    ],
)
def test_odd_images_are_accepted_whatever_their_name(tmp_path, data, expected):
    put(tmp_path, "x.jpg", data)
    assert inspect(str(tmp_path / "x.jpg"))[1:] == expected


def bomb() -> bytes:
    """Return a PNG of 400 Mpx in a few bytes; only its header can be read before it must be refused."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2501 * 20_000), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


BAD = {
    "truncated.jpg": (half(encoded(size=(200, 200), kind="JPEG")), "damaged: image file is truncated"),
    "truncated.png": (half(encoded(size=(200, 200))), "damaged: "),
    "zero.jpg": (b"", "an empty file"),
    "text.jpg": (b"not a picture at all\n", "not an image: expected one of JPEG"),
    "bomb.png": (bomb(), "too many pixels: expected at most 178,956,970, received"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_have_a_reason(tmp_path, name):
    data, reason = BAD[name]
    put(tmp_path, name, data)
    assert inspect(str(tmp_path / name)).startswith(reason)


# --- prepare


def test_prepare_writes_manifest_quarantine_and_pictures(tmp_path, drawn):
    root = photos(tmp_path / "in")
    summary = run(root, tmp_path / "out")
    manifest = read(tmp_path / "out/manifest.csv")
    assert manifest.paths == [f"{label}/{i:03}.png" for label in ("cats", "dogs") for i in range(30)]
    assert manifest.labels == ["cats"] * 30 + ["dogs"] * 30
    digests = [hashlib.sha256((root / path).read_bytes()).hexdigest() for path in manifest.paths]
    assert [digest.tobytes().hex() for digest in manifest.digests] == digests
    places = [int(digest[:16], 16) / 2**64 for digest in digests]
    assert manifest.splits == ["test" if p < 0.2 else "val" if p < 0.4 else "train" for p in places]
    assert set(manifest.widths) == {8}
    assert set(manifest.heights) == {6}
    assert quarantine(tmp_path / "out") == ["path,reason"]
    assert summary.counts == manifest.counts()
    assert (summary.images(), summary.images("train")) == (60, manifest.splits.count("train"))
    assert (summary.quarantined, summary.skipped, summary.warnings) == (0, 0, [])
    for name in ("samples.png", "class_counts.png", "image_sizes.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.format == "PNG"
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_prepare_twice_writes_the_same_bytes_and_progress_counts_every_candidate(tmp_path, drawn, processes):
    root = photos(tmp_path / "in")
    put(root, "cats/bad.jpg", b"")
    seen = []
    run(root, tmp_path / "one", workers=2, progress=lambda *pair: seen.append(pair))
    assert seen[-1] == (61, 61)
    run(root, tmp_path / "two", workers=1)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 7
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_adding_renaming_and_removing_images_moves_no_other(tmp_path):
    root = photos(tmp_path / "in")
    run(root, tmp_path / "before")
    for i in range(20):
        put(root, f"cats/new{i}.png", encoded(COLOURS[100 + i]))
    (root / "dogs/003.png").rename(root / "dogs/renamed.png")
    (root / "dogs/004.png").unlink()
    run(root, tmp_path / "after")
    before, after = by_path(read(tmp_path / "before/manifest.csv")), by_path(read(tmp_path / "after/manifest.csv"))
    assert after["dogs/renamed.png"] == before["dogs/003.png"]
    kept = before.keys() & after.keys()
    assert len(kept) == 58
    assert all(after[path] == before[path] for path in kept)


def test_identical_files_of_one_class_share_a_split(tmp_path):
    root = photos(tmp_path / "in")
    for i in range(30):
        put(root, f"cats/copy{i:03}.png", encoded(COLOURS[i]))
    run(root, tmp_path / "out")
    found = by_path(read(tmp_path / "out/manifest.csv"))
    assert [found[f"cats/copy{i:03}.png"] for i in range(30)] == [found[f"cats/{i:03}.png"] for i in range(30)]


def test_identical_files_with_different_labels_are_listed_with_the_remedy(tmp_path):
    root = photos(tmp_path / "in")
    for i in range(12):
        put(root, f"dogs/copy{i:02}.png", encoded(COLOURS[i]))
    for i in range(9):
        put(root, f"cats/copy{i}.png", encoded(COLOURS[0]))
    with pytest.raises(InputError) as caught:
        run(root, tmp_path / "out")
    message = str(caught.value)
    assert "identical files with different labels: expected none, received 12: " in message
    assert "cats/000.png (cats) = dogs/copy00.png (dogs) = cats/copy0.png (cats) = cats/copy1.png (cats)" in message
    assert "= and 6 more; cats/001.png (cats) = dogs/copy01.png (dogs)" in message
    assert "and 2 more. List the wrong ones, a path a line, in a file and give it as `exclude`" in message
    assert not (tmp_path / "out/manifest.csv").exists()

    (tmp_path / "wrong.txt").write_text("".join(f"dogs/copy{i:02}.png\n" for i in range(12)))
    assert run(root, tmp_path / "out", exclude=tmp_path / "wrong.txt").quarantined == 12


def test_identical_files_in_different_given_splits_are_listed(tmp_path):
    photos(tmp_path / "in/train", each=4)
    put(tmp_path / "in", "test/cats/9.png", encoded(COLOURS[0]))
    put(tmp_path / "in", "test/dogs/9.png", encoded(COLOURS[99]))
    with pytest.raises(InputError) as caught:
        run(tmp_path / "in", tmp_path / "out")
    assert "different splits: expected none, received 1: test/cats/9.png (test) = train/cats/000.png (train)" in str(
        caught.value
    )


def test_given_splits_are_kept_and_validation_is_drawn_from_train(tmp_path):
    photos(tmp_path / "in/train")
    for i in range(5):
        for label, place in (("cats", 200), ("dogs", 300)):
            put(tmp_path / "in", f"test/{label}/{i}.png", encoded(COLOURS[place + i]))
    summary = run(tmp_path / "in", tmp_path / "out")
    assert summary.images("test") == 10
    manifest = read(tmp_path / "out/manifest.csv")
    for path, split, digest in zip(manifest.paths, manifest.splits, manifest.digests, strict=True):
        place = int.from_bytes(digest[:8].tobytes(), "big") / 2**64
        assert split == ("test" if path.startswith("test/") else "val" if place < 0.2 else "train")
    assert summary.images("val") > 0


def test_a_class_without_test_images_is_a_warning_that_names_stratify(tmp_path):
    root = photos(tmp_path / "in")
    put(root, "few/1.png", encoded(COLOURS[200]))
    put(root, "few/2.png", encoded(COLOURS[201]))
    put(root, "few/3.png", encoded(COLOURS[202]))
    (warning,) = run(root, tmp_path / "out", val_fraction=0.001, test_fraction=0.04).warnings
    assert warning.startswith("1 class without an image in test: few; add images, or give `stratify=True`")
    assert run(root, tmp_path / "out", val_fraction=0.1, stratify=True).warnings == []


def test_a_class_that_only_the_given_test_split_has_is_told_with_the_nearest_name_and_without_stratify(tmp_path):
    made = photos(tmp_path / "made", each=12, classes=("dog", "cat", "dogs"))
    for label in ("dog", "cat", "dogs"):
        for number in range(12):
            split = "test" if label == "dogs" or number > 8 else "train"
            put(tmp_path / "in", f"{split}/{label}/{number}.png", (made / label / f"{number:03}.png").read_bytes())
    with pytest.raises(
        InputError, match=r"1 class without an image in train: dogs \(there is dog\); add images"
    ) as told:
        run(tmp_path / "in", tmp_path / "out")
    assert "stratify" not in str(told.value)


def test_copies_of_one_photo_can_be_put_into_one_split_only_so_stratify_is_not_advised(tmp_path):
    for number in range(6):
        put(tmp_path / "in", f"cats/{number}.png", encoded(COLOURS[0]))
        put(tmp_path / "in", f"dogs/{number}.png", encoded(COLOURS[1]))
    (warning,) = run(tmp_path / "in", tmp_path / "out").warnings
    assert warning == "2 classes without an image in test: cats; dogs; add images"


def test_unlabelled_photos_in_a_folder_of_the_test_split_are_for_predict(tmp_path):
    photos(tmp_path / "in/train", each=4)
    put(tmp_path / "in", "test/images/1.png", encoded(COLOURS[99]))
    with pytest.raises(InputError, match=r"without an image in train: images.* label them with a trained head"):
        run(tmp_path / "in", tmp_path / "out")


def test_stratify_gives_each_class_its_share(tmp_path):
    summary = run(photos(tmp_path / "in", each=10), tmp_path / "out", val_fraction=0.1, stratify=True)
    assert summary.counts == {label: {"train": 7, "val": 1, "test": 2} for label in ("cats", "dogs")}


def test_a_class_that_misses_train_is_an_error_with_the_remedy(tmp_path):
    root = photos(tmp_path / "in", each=3)
    summary = run(root, tmp_path / "out", test_fraction=0.999, val_fraction=0.0)
    assert summary.counts == {label: {"train": 1, "val": 0, "test": 2} for label in ("cats", "dogs")}
    (warning,) = summary.warnings
    assert warning.startswith("too few images to fill each split by their digests, so some were moved: cats/")
    photos(tmp_path / "given/train", each=3)
    put(tmp_path / "given", "test/Cats/1.png", encoded(COLOURS[300]))
    with pytest.raises(InputError, match="every class in train, received 1 class without an image in train: Cats"):
        run(tmp_path / "given", tmp_path / "out", val_fraction=0.0)


def test_a_class_that_misses_a_given_split_is_a_warning(tmp_path):
    photos(tmp_path / "in/train")
    put(tmp_path / "in", "test/cats/1.png", encoded(COLOURS[300]))
    assert run(tmp_path / "in", tmp_path / "out").warnings == [
        "1 class without an image in test: dogs; add images to the source's test split"
    ]


def test_fractions_of_zero_ask_for_no_split(tmp_path):
    summary = run(photos(tmp_path / "in"), tmp_path / "out", val_fraction=0.0, test_fraction=0.0)
    assert summary.warnings == []
    assert summary.images("train") == 60


def test_labels_from_names_and_from_a_csv(tmp_path):
    root = tmp_path / "in"
    for i in range(10):
        put(root, f"{'cat' if i % 2 else 'dog'}.{i}.png", encoded(COLOURS[i]))
    by_name = run(root, tmp_path / "out", label_pattern=r"^([a-z]+)\.", test_fraction=0.0, val_fraction=0.0)
    assert {label: row["train"] for label, row in by_name.counts.items()} == {"cat": 5, "dog": 5}
    (tmp_path / "labels.csv").write_text(
        "path,label,split\ncat.1.png,A,train\ndog.2.png,B,train\ncat.3.png,A,test\ndog.0.png,B,test\n"
    )
    by_csv = run(root, tmp_path / "out", labels=tmp_path / "labels.csv", val_fraction=0.0)
    assert by_csv.counts == {label: {"train": 1, "val": 0, "test": 1} for label in ("A", "B")}


def test_a_file_that_a_csv_lists_and_that_is_not_there_is_quarantined(tmp_path):
    photos(tmp_path / "in", each=5)
    rows = [f"{label}/{i:03}.png,{label}\n" for label in ("cats", "dogs") for i in range(5)]
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(rows) + "cats/gone.png,cats\ncats,cats\n")
    options = {"labels": tmp_path / "labels.csv", "max_quarantined": 0.5, "stratify": True}
    assert run(tmp_path / "in", tmp_path / "out", **options).quarantined == 2
    assert quarantine(tmp_path / "out")[1:] == ["cats,not a regular file", "cats/gone.png,file not found"]


# --- quarantine


def test_each_bad_file_is_quarantined_with_its_reason_and_the_rest_goes_on(tmp_path):
    root = photos(tmp_path / "in")
    for name, (data, _) in BAD.items():
        put(root, f"cats/{name}", data)
    (root / "cats/y.jpg").mkdir()
    (root / "dogs/broken.jpg").symlink_to("nowhere.jpg")
    (root / "dogs/up").symlink_to(root)
    summary = run(root, tmp_path / "out", max_quarantined=0.2)
    assert summary.images() == 60
    assert summary.quarantined == len(BAD) + 2
    lines = quarantine(tmp_path / "out")[1:]
    assert [line.split(",")[0] for line in lines] == [
        "cats/bomb.png",
        "cats/text.jpg",
        "cats/truncated.jpg",
        "cats/truncated.png",
        "cats/zero.jpg",
        "dogs/broken.jpg",
        "dogs/up",
    ]
    assert lines[-3:] == [
        "cats/zero.jpg,an empty file",
        "dogs/broken.jpg,a broken link",
        "dogs/up,a link to a folder above it",
    ]


def test_a_name_that_is_not_utf8_is_quarantined(tmp_path):
    root = photos(tmp_path / "in", each=10)
    try:
        put(root, os.fsdecode(b"cats/caf\xe9.png"), encoded())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    run(root, tmp_path / "out")
    assert quarantine(tmp_path / "out")[1:] == [r"cats/caf\xe9.png,the name is not UTF-8"]


def test_odd_names_survive(tmp_path):
    root = photos(tmp_path / "in")
    names = ['cats/a, "b".png', "cats/line\nfeed.png", "cats/return\r.png", "cats/猫 ü '.png", "cats/ .png"]
    for i, name in enumerate(names):
        put(root, name, encoded(COLOURS[100 + i]))
    put(root, "dogs/bad\r, name\n.png", b"")
    run(root, tmp_path / "out")
    manifest = read(tmp_path / "out/manifest.csv")
    assert set(names) <= set(manifest.paths)
    assert all((root / path).is_file() for path in manifest.paths)
    assert (tmp_path / "out/quarantine.csv").read_bytes() == (
        b'path,reason\n"dogs/bad\r, name\n.png","an empty file"\n'
    )


def test_a_decoder_that_crashes_costs_one_file(tmp_path, monkeypatch, processes):
    root = photos(tmp_path / "in")
    put(root, "cats/crash.png", encoded(COLOURS[100]))
    monkeypatch.setattr("pipeline.photos.inspection.inspect", crash_on_marked)
    assert run(root, tmp_path / "out", workers=1).images() == 60
    assert quarantine(tmp_path / "out") == ["path,reason", "cats/crash.png,the decoder crashed on it"]


def test_an_input_output_error_of_the_disk_stops_the_run_and_names_the_file(tmp_path, monkeypatch, processes):
    root = photos(tmp_path / "in")
    monkeypatch.setattr("pipeline.photos.inspection.inspect", fail_on_marked)
    with pytest.raises(StorageError, match=r"007\.png: the disk fails: Input/output error"):
        run(root, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_too_many_unusable_files_are_an_error_and_the_quarantine_is_still_written(tmp_path):
    root = photos(tmp_path / "in", each=8)
    for i in range(4):
        put(root, f"cats/bad{i}.jpg", b"")
    assert run(root, tmp_path / "fine", max_quarantined=0.2, stratify=True).quarantined == 4
    with pytest.raises(InputError) as caught:
        run(root, tmp_path / "out", max_quarantined=0.19)
    assert str(caught.value).startswith(
        "`max_quarantined`: expected at most a fraction of 0.19 to be unusable, received 4 of 20 files (0.2): "
        "cats/bad0.jpg (an empty file); cats/bad1.jpg (an empty file); cats/bad2.jpg (an empty file); and 1 more. "
    )
    assert len(quarantine(tmp_path / "out")) == 5
    assert not (tmp_path / "out/manifest.csv").exists()


def test_without_a_single_usable_image_no_limit_helps(tmp_path):
    put(tmp_path, "in/cats/1.jpg", b"")
    put(tmp_path, "in/dogs/1.jpg", b"text")
    with pytest.raises(InputError, match="received 2 of 2 files"):
        run(tmp_path / "in", tmp_path / "out", max_quarantined=1.0)


def test_a_class_that_loses_every_file_is_a_warning_or_an_error(tmp_path):
    root = photos(tmp_path / "in")
    put(root, "fish/1.jpg", b"")
    assert run(root, tmp_path / "out").warnings == ["1 class lost every file to the quarantine: fish"]
    put(tmp_path, "two/cats/1.png", encoded())
    put(tmp_path, "two/dogs/1.png", b"")
    with pytest.raises(InputError, match="usable images of at least two classes, received 1: cats"):
        run(tmp_path / "two", tmp_path / "out", max_quarantined=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": -0.1}, "`val_fraction`: expected a number of at least 0 and below 1, received -0.1"),
        ({"test_fraction": 1.0}, "`test_fraction`: expected a number of at least 0 and below 1, received 1.0"),
        ({"max_quarantined": float("nan")}, "`max_quarantined`: expected a number of at least 0 and of at most 1, rec"),
        ({"hash_distance": 257}, "`hash_distance`: expected a whole number of at least 0 and of at most 256, received"),
        (
            {"val_fraction": 0.5, "test_fraction": 0.5},
            "`val_fraction` and `test_fraction`: expected a sum below 1, received 0.5 and 0.5",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused_before_any_work(tmp_path, settings, message):
    with pytest.raises(SettingError, match=message):
        run(tmp_path / "nowhere", tmp_path / "out", **settings)


def test_excluded_files_are_quarantined_and_do_not_count_towards_the_limit(tmp_path):
    root = photos(tmp_path / "in")
    put(root, "cats/bad.jpg", b"")
    listed = tmp_path / "exclude.txt"
    listed.write_text("# wrong labels\n\n./cats/001.png\r\ncats/bad.jpg\ndogs/nowhere.png\n")
    summary = run(root, tmp_path / "out", exclude=listed, max_quarantined=0.0)
    assert summary.quarantined == 2
    assert summary.images() == 59
    assert summary.warnings == [f"{listed}: dogs/nowhere.png: no such image, so nothing to exclude"]
    assert quarantine(tmp_path / "out")[1:] == [
        f"cats/001.png,excluded by {listed}",
        f"cats/bad.jpg,excluded by {listed}",
    ]


def test_an_exclude_file_that_is_missing_or_excludes_all_is_refused(tmp_path):
    root = photos(tmp_path / "in", each=2)
    with pytest.raises(InputError, match="`exclude`: expected a file of paths"):
        run(root, tmp_path / "out", exclude=tmp_path / "none.txt")
    (tmp_path / "all.txt").write_text("".join(f"{c}/{i:03}.png\n" for c in ("cats", "dogs") for i in range(2)))
    with pytest.raises(InputError, match="`exclude`: expected some images to remain"):
        run(root, tmp_path / "out", exclude=tmp_path / "all.txt")


def test_a_manifest_inside_the_image_root_is_refused(tmp_path):
    root = photos(tmp_path / "in", each=2)
    with pytest.raises(InputError, match="expected a manifest outside the image root"):
        run(root, root / "meta")


def test_importing_it_loads_nothing_heavy():
    program = (
        "import pipeline.photos.prepare, sys; "
        "print([m for m in ('tensorflow', 'keras', 'joblib', 'sklearn', 'matplotlib', 'h5py') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_samples_show_each_class_and_no_test_image(tmp_path):
    run(photos(tmp_path / "in", classes=("a", "b", "c")), tmp_path / "out")
    manifest = read(tmp_path / "out/manifest.csv")
    shown, title = _samples(manifest)
    assert {label: shown.labels.count(label) for label in "abc"} == {"a": 13, "b": 13, "c": 13}
    assert set(shown.splits) == {"train"}
    assert title == f"39 of {manifest.splits.count('train')} training images, 3 of 3 classes"


def test_of_many_classes_some_are_shown():
    count = 100
    digests = np.random.default_rng(0).integers(0, 256, (count, 32), dtype=np.uint8)
    sizes = np.ones(count, np.int32)
    labels = [f"{i:03}" for i in range(count)]
    manifest = Manifest(labels, digests, labels, ["train"] * count, sizes, sizes, ["PNG"] * count)
    shown, title = _samples(manifest)
    assert len(set(shown.labels)) == 40
    assert title == "40 of 100 training images, 40 of 100 classes"


# --- near duplicates


def with_copies(root: Path) -> Path:
    """Sixty pictures, each with two copies that are re-encoded or mirrored."""
    for number in range(60):
        coarse = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((80, 60), Image.Resampling.BICUBIC)
        for name, copy, kind in (("a", image, "PNG"), ("b", image, "JPEG"), ("c", ImageOps.mirror(image), "PNG")):
            buffer = io.BytesIO()
            copy.save(buffer, kind)
            put(root, f"{'cats' if number % 2 else 'dogs'}/{number:03}{name}", buffer.getvalue())
    return root


@pytest.mark.parametrize("stratify", [False, True])
def test_near_duplicates_stay_in_one_split_if_asked_for(tmp_path, stratify):
    root = with_copies(tmp_path / "photos")
    apart = {}
    for distance in (None, 31):
        run(
            root,
            tmp_path / "out",
            group_near_duplicates=distance is not None,
            hash_distance=distance or 31,
            stratify=stratify,
            workers=1,
        )
        manifest = read(tmp_path / "out/manifest.csv")
        splits = {}
        for path, split in zip(manifest.paths, manifest.splits, strict=True):
            splits.setdefault(path[:-1], set()).add(split)
        apart[distance] = sum(len(found) > 1 for found in splits.values())
        assert set(manifest.splits) == {"train", "val", "test"}
    assert apart[None] > 20
    assert apart[31] == 0


def test_pictures_without_copies_stay_where_they_are_when_near_duplicates_are_grouped(tmp_path):
    root = with_copies(tmp_path / "photos")
    for path in [*root.rglob("*b"), *root.rglob("*c")]:
        path.unlink()
    run(root, tmp_path / "plain", workers=1)
    run(root, tmp_path / "grouped", group_near_duplicates=True, hash_distance=31, workers=1)
    assert (tmp_path / "plain/manifest.csv").read_bytes() == (tmp_path / "grouped/manifest.csv").read_bytes()


def test_near_duplicates_in_splits_that_are_given_are_named(tmp_path):
    root = with_copies(tmp_path / "photos")
    moved = tmp_path / "given"
    for place, path in enumerate(sorted(root.rglob("*[ab]"))):
        split = "test" if path.name == "007a" or place >= 100 else "train"
        put(moved, f"{split}/{path.parent.name}/{path.name}", path.read_bytes())
    (note,) = run(
        moved, tmp_path / "out", group_near_duplicates=True, hash_distance=31, val_fraction=0.0, workers=1
    ).warnings
    assert note == (
        "near duplicates in different splits, as the source gives them, 1 times: "
        "test/cats/007a (test) = train/cats/007b (train)"
    )
