"""Compare the decoders on photos of your own: photos a second, pixels apart, bits by each set of instructions.

    python benchmarks/decoding.py --images DIR --sizes 160 224
    python benchmarks/decoding.py --images DIR --sides 4000 3000 --limit 100

Photos lie in memory, and both ways run in turns, in two threads. CPU seconds count, since other work on a machine does
not change them by much: the photos a second are those of two cores that do nothing else.
"""

import argparse
import io
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.photos import decode, turbo
from pipeline.photos.settings import Decoder

DECODERS: tuple[Decoder, ...] = ("pillow", "turbo")
SUFFIXES = (".jpg", ".jpeg", ".png")
THREADS = 2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[160, 224])
    parser.add_argument("--sides", type=int, nargs=2, help="enlarge each photo to this width and height first")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in SUFFIXES)[: arguments.limit]
    photos = [_enlarged(path.read_bytes(), arguments.sides) for path in files]
    print(f"{len(photos):,} photos, {arguments.rounds} rounds")
    for size in arguments.sizes:
        rates: dict[Decoder, list[float]] = {decoder: [] for decoder in DECODERS}
        for _ in range(arguments.rounds):
            for decoder in DECODERS:
                rates[decoder].append(_photos_a_second(photos, size, decoder))
        told = ", ".join(f"{name} {statistics.median(each):,.0f} a second" for name, each in rates.items())
        ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
        print(f"{size} px: {told}, {ratio:.2f} times; {_apart(photos, size)}")


def _enlarged(data: bytes, sides: list[int] | None) -> bytes:
    if sides is None:
        return data
    memory = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").resize((sides[0], sides[1]), Image.Resampling.BICUBIC).save(memory, "JPEG", quality=90)
    return memory.getvalue()


def _photos_a_second(photos: list[bytes], size: int, decoder: Decoder) -> float:
    started = time.process_time()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda data: decode.fit(data, size=size, geometry="squash", decoder=decoder), photos))
    return THREADS * len(photos) / (time.process_time() - started)


def _apart(photos: list[bytes], size: int) -> str:
    import cykooz_resizer

    means, most, same = [], 0, 0
    for data in photos:
        pillow, usual = (decode.fit(data, size=size, geometry="squash", decoder=decoder) for decoder in DECODERS)
        apart = np.abs(pillow.astype(int) - usual)
        means.append(apart.mean())
        most = max(most, int(apart.max()))
        resizer = turbo._thread.resizer
        before = resizer.cpu_extensions
        kinds = cykooz_resizer.CpuExtensions
        found = []
        for kind in {kinds.none, kinds.sse4_1, before} if before == kinds.avx2 else {kinds.none, before}:
            resizer.cpu_extensions = kind
            found.append(decode.fit(data, size=size, geometry="squash", decoder="turbo"))
        resizer.cpu_extensions = before
        same += all(np.array_equal(one, usual) for one in found)
    return f"grey levels apart: mean {np.mean(means):.3f}, most {most}; {same:,} the same by all instructions"


if __name__ == "__main__":
    main()
