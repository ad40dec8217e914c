"""Names and line ends of other systems: reserved names, trailing dots, names that differ by case, CRLF."""

import csv
from pathlib import Path

from PIL import Image

from pipeline.photos.prepare import prepare
from pipeline.photos.settings import PrepareSettings

CLASSES = ("CON", "nul", "Cat", "cat", "a.")
FILES = ("aux.jpg", "x. .png", "2.png", "3.png")


def test_odd_names_keep_their_classes_and_lists_may_end_lines_as_windows_does(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for shade, label in enumerate(CLASSES):
        (root / label).mkdir(parents=True)
        for blue, name in enumerate(FILES):
            Image.new("RGB", (20, 20), (50 * shade, 90, 60 * blue)).save(root / label / name)
    (tmp_path / "exclude.txt").write_bytes(b"cat/2.png\r\n# a comment\r\n\r\nCON/aux.jpg\r\n")
    rows = "".join(f"{label}/{name},{label}\r\n" for label in CLASSES for name in FILES)
    (tmp_path / "labels.csv").write_bytes(f"path,label\r\n{rows}".encode())
    expected = {f"{label}/{name}": label for label in CLASSES for name in FILES}
    del expected["cat/2.png"], expected["CON/aux.jpg"]
    for labels in (None, tmp_path / "labels.csv"):
        settings = PrepareSettings(labels=labels, exclude=tmp_path / "exclude.txt", max_quarantined=0.5, workers=1)
        done = prepare(root, tmp_path / "out" / "manifest.csv", settings, progress=lambda done, total: None)
        assert done.quarantined == 2
        with (tmp_path / "out" / "manifest.csv").open(encoding="utf-8", newline="") as file:
            assert {row["path"]: row["label"] for row in csv.DictReader(file)} == expected
