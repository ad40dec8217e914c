"""Does the audit find faults that were planted? Precision and recall, on photos of one's own.

    python benchmarks/audit.py --images DIR [--out DIR --seed 0 --copies 44 --flipped 20 --others 20 --draws 20]

DIR holds photos in class folders, or train and test folders with class folders inside. They are copied to a temporary
folder as split folders; then copies of some are put into another split, by turns re-encoded, resized, mirrored, cropped
or turned, and the labels of others are flipped. The features are those of the default base. Printed are precision and
recall of the copies that the audit is sure of, by how they were made, and of the labels that it finds likely wrong; a
list of what was found and not planted, to be looked at: photos have faults of their own.

Then come outliers, by which neighbour's distance counts and by the limit; the first is the audit's own. So many photos
of other classes are put among those of each: printed is which share of them is found, and in brackets which share of
the rest is listed with them, in the mean over draws. Of all photos, in which nothing was planted, it is the latter.
"""

import argparse
import csv
import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pipeline.audit import outliers
from pipeline.audit.settings import AuditSettings
from pipeline.features.features_file import Features
from pipeline.photos import manifest
from pipeline.stats import nearest_neighbours

SPLITS = ("train", "val", "test")
NEIGHBOURS = (AuditSettings.neighbours, 2 * AuditSettings.neighbours, 3 * AuditSettings.neighbours)
LIMITS = (outliers.STANDS_OUT, 3.0)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image as a file of some kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def resized(image: Image.Image, scale: float) -> Image.Image:
    """Return an image at another size."""
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float) -> Image.Image:
    """Return an image without this share of it on each side."""
    width, height = (round(side * share) for side in image.size)
    return image.crop((width, height, image.width - width, image.height - height))


WAYS: dict[str, Callable[[Image.Image], bytes]] = {
    "as PNG": lambda image: encoded(image, "PNG", compress_level=1),  # a PNG is not copied to the byte
    "JPEG, quality 40": lambda image: encoded(image, "JPEG", quality=40),
    "WebP, quality 60": lambda image: encoded(image, "WEBP", quality=60),
    "half the size": lambda image: encoded(resized(image, 0.5), "JPEG", quality=80),
    "a third larger": lambda image: encoded(resized(image, 1.33), "JPEG", quality=80),
    "mirrored": lambda image: encoded(ImageOps.mirror(image), "JPEG", quality=85),
    "mirrored, 0.7 of the size": lambda image: encoded(resized(ImageOps.mirror(image), 0.7), "JPEG", quality=70),
    "cropped by 1.5 % a side": lambda image: encoded(cropped(image, 0.015), "JPEG", quality=80),
    "cropped by 3 % a side": lambda image: encoded(cropped(image, 0.03), "JPEG", quality=80),
    "turned by 2 degrees": lambda image: encoded(image.rotate(2, Image.Resampling.BICUBIC), "JPEG", quality=80),
    "turned by a quarter": lambda image: encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=80),
}


def planted(source: Path, root: Path, arguments: argparse.Namespace) -> tuple[dict[frozenset[str], str], set[str]]:
    """Write the photos with their faults; return the pairs of copies with how each was made, and flipped paths."""
    draw = random.Random(arguments.seed)
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    labels = {path: path.parent.name for path in found}
    classes = sorted(set(labels.values()))
    draw.shuffle(found)
    flipped_ones = set(found[: arguments.flipped])
    flipped, where = set(), {}
    for place, path in enumerate(found):
        split = "train" if place % 10 < 6 else "val" if place % 10 < 7 else "test"
        label = labels[path]
        if path in flipped_ones:
            label = draw.choice([name for name in classes if name != label])
        name = f"{split}/{label}/{labels[path]}~{path.name}"
        where[path] = name
        put(root / name, path.read_bytes())
        if path in flipped_ones:
            flipped.add(name)
    pairs = {}
    for place, path in enumerate(found[arguments.flipped :][: arguments.copies]):
        way = list(WAYS)[place % len(WAYS)]
        split, label, name = where[path].split("/")
        other = draw.choice([one for one in SPLITS if one != split])
        copy = f"{other}/{label}/copy-{place:03}.{'png' if way == 'as PNG' else 'jpg'}"
        with Image.open(path) as image:
            put(root / copy, WAYS[way](ImageOps.exif_transpose(image).convert("RGB")))
        pairs[frozenset((where[path], copy))] = way
    return pairs, flipped


def put(path: Path, data: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def audited(root: Path, out: Path, cache: Path) -> None:
    """Run prepare, extract and audit as their commands do."""
    from stages.audit import audit
    from stages.extract import extract
    from stages.prepare import prepare

    manifest, features = str(out / "manifest.csv"), str(out / "features.h5")
    prepare([str(root), manifest], standalone_mode=False)
    extract([str(root), manifest, features, "--cache", str(cache)], standalone_mode=False)
    audit([str(root), manifest, features, str(out)], standalone_mode=False)


def rows(path: Path) -> list[dict[str, str]]:
    """Read a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def score(title: str, found: set[object], truth: set[object]) -> None:
    """Print precision and recall."""
    right = len(found & truth)
    precision = right / len(found) if found else float("nan")
    print(
        f"{title}: {len(found)} found, {right} of them planted, {len(truth)} planted: "
        f"precision {precision:.3f}, recall {right / len(truth):.3f}"
    )


def score_ways(pairs: dict[frozenset[str], str], sure: set[frozenset[str]]) -> None:
    """Print how many copies of each kind were found."""
    for way in WAYS:
        made = [pair for pair, how in pairs.items() if how == way]
        print(f"{way:26} {sum(pair in sure for pair in made):4} of {len(made)}")


def listed(vectors: np.ndarray) -> np.ndarray:
    """Return which photos are above each limit, by each neighbour's distance: (neighbours, limits, photos)."""
    codes = np.zeros(len(vectors), np.int64)
    scores = np.stack([outliers.measure(vectors, codes, neighbours=k).scores for k in NEIGHBOURS])
    return scores[:, None] > np.array(LIMITS)[:, None]


def others(manifest_path: Path, features_path: Path, arguments: argparse.Namespace) -> None:
    """Print which share of photos of other classes is listed among those of one, and of these; and where none are."""
    table = manifest.read(manifest_path).distinct(*SPLITS)
    kept = [place for place, path in enumerate(table.paths) if not Path(path).name.startswith("copy-")]
    # What a photo shows is in its name, also where its label was flipped.
    shown = np.array([Path(table.paths[place]).name.partition("~")[0] for place in kept])
    with Features(features_path) as features:
        vectors = nearest_neighbours.unit(features.gather(table.digests[kept]).reshape(len(kept), -1))
    names = "".join(f"{f'{k}th, {limit:g}':>16}" for k in NEIGHBOURS for limit in LIMITS)
    print(f"{'outliers, by neighbour and limit':40}{names}")
    alone = "".join(f"{f'({share:.4f})':>16}" for share in listed(vectors).mean(axis=2).ravel())
    print(f"{f'{len(vectors):,} photos as they are':40}{alone}")
    for name in np.unique(shown):
        own, foreign, shares = np.flatnonzero(shown == name), np.flatnonzero(shown != name), []
        for draw in range(arguments.draws):
            chosen = np.random.default_rng([arguments.seed, draw]).choice(foreign, arguments.others, replace=False)
            found = listed(vectors[np.concatenate([own, chosen])])
            shares.append([found[..., len(own) :].mean(axis=2), found[..., : len(own)].mean(axis=2)])
        both = zip(*np.mean(shares, axis=0).reshape(2, -1), strict=True)
        cells = "".join(f"{f'{planted_ones:.3f} ({rest:.4f})':>16}" for planted_ones, rest in both)
        print(f"{f'{arguments.others} others among {len(own):,} of {name}':40}{cells}")


def main() -> None:
    """Plant, audit, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="where the audit's tables and pictures stay; default: nowhere")
    parser.add_argument("--cache", type=Path, help="row cache; default: a temporary one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", type=int, default=44)
    parser.add_argument("--flipped", type=int, default=20)
    parser.add_argument("--others", type=int, default=20, help="photos of other classes among those of one")
    parser.add_argument("--draws", type=int, default=20, help="of these")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root, out = Path(temporary) / "images", arguments.out or Path(temporary) / "out"
        pairs, flipped = planted(arguments.images, root, arguments)
        audited(root, out, arguments.cache or Path(temporary) / "cache")
        duplicates, issues = rows(out / "duplicates.csv"), rows(out / "label_issues.csv")
        others(out / "manifest.csv", out / "features.h5", arguments)
    sure = {frozenset((row["path_a"], row["path_b"])) for row in duplicates if row["kind"] != "alike"}
    leaks = {frozenset((row["path_a"], row["path_b"])) for row in duplicates if row["leakage"] == "1"}
    score("copies", set(sure), set(pairs))
    score_ways(pairs, sure)
    across = {pair for pair in pairs if len({name.split("/")[0] == "test" for name in pair}) == 2}
    score("leakage", set(leaks), set(across))
    score("labels", {row["path"] for row in issues if row["confident"] == "1"}, set(flipped))
    score("labels, the doubtful ones with them", {row["path"] for row in issues}, set(flipped))
    for pair in sorted(map(sorted, sure - set(pairs))):
        print(f"not planted, the same picture: {' = '.join(pair)}")
    for pair in set(pairs) - sure:
        print(f"missed, {pairs[pair]}: {' = '.join(sorted(pair))}")
    for row in issues:
        if row["path"] not in flipped and row["confident"] == "1":
            print(f"not planted, label: {row['path']} seems {row['suggested']}, margin {row['margin']}")


if __name__ == "__main__":
    main()
