"""How many photos a server answers, and how soon, against labelling them one at a time in a process of one's own.

    python benchmarks/serving.py --trained HEAD_DIR|MODEL_DIR --images DIR [--seconds 10] [--clients 1 8 64]

DIR holds photos, in folders or not. The server is `headstart serve` in a process of its own; the clients share another
one, keep their connections, and each sends the next photo as an upload as soon as it has the answer to the last. Both
processes share the machine, so what the clients cost is in the figures. One at a time means that `Predictor` is called
once for each photo, with everything loaded. Options that are not known here go to `headstart serve`.

Printed are answers a second, half and 99 of 100 latencies, answers that were not status 200, and the server's memory.
"""

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from itertools import count
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BOUNDARY = "photo"
WARM_UP = 40  # requests


def request(photo: Path) -> bytes:
    """Return the whole of an upload."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{photo.name}"\r\n\r\n'
    body = head.encode() + photo.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    lines = ("POST /predict HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def client(
    port: int, uploads: list[bytes], turn: "count[int]", until: float, told: list[tuple[int, float]]
) -> None:
    """Send one upload after another, and note status and latency."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until:
        started = time.perf_counter()
        writer.write(uploads[next(turn) % len(uploads)])
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length))
        told.append((int(head.split(maxsplit=2)[1]), time.perf_counter() - started))
    writer.close()


async def load(port: int, uploads: list[bytes], clients: int, seconds: float) -> tuple[list[tuple[int, float]], float]:
    """Run clients side by side; return what each answer was, and the seconds all took."""
    told: list[tuple[int, float]] = []
    started, turn = time.monotonic(), count()
    await asyncio.gather(*(client(port, uploads, turn, started + seconds, told) for _ in range(clients)))
    return told, time.monotonic() - started


def one_at_a_time(trained: Path, photos: list[Path], cache: Path, seconds: float) -> list[float]:
    """Label photos one by one in this process; return the latencies."""
    from pipeline.inference import predict
    from pipeline.models.settings import Runtime

    predictor = predict.Predictor(trained, Runtime(batch_size=1, cache=cache))
    latencies: list[float] = []
    until = time.monotonic() + seconds
    for place in count():
        started = time.perf_counter()
        list(predictor.predict([photos[place % len(photos)]], progress=lambda *_: None))
        if place >= WARM_UP:
            latencies.append(time.perf_counter() - started)
        else:
            until = time.monotonic() + seconds
        if time.monotonic() > until:
            return latencies
    return latencies


def memory(port: int) -> float:
    """Return the server's memory in MB."""
    with urllib.request.urlopen(f"http://localhost:{port}/metrics") as answer:
        text = answer.read().decode()
    (found,) = re.findall(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    return float(found) / 2**20


def row(name: str, latencies: list[float], seconds: float, odd: int, note: str) -> None:
    """Print one way."""
    half, most = statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]
    print(f"{name:22}{len(latencies) / seconds:9.1f}{1000 * half:10.1f}{1000 * most:10.1f}{odd:7}  {note}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path(".headstart"))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    arguments, options = parser.parse_known_args()
    from pipeline.inference import predict

    photos = predict.expand([arguments.images]).paths
    uploads = [request(photo) for photo in photos[:200]]
    command = [sys.executable, "-m", "stages", "serve", str(arguments.trained), "--port", "0"]
    command += ["--cache", str(arguments.cache), *options]
    print(f"{len(uploads)} photos in turn, {os.cpu_count()} cores")
    print(f"{'':22}{'answers/s':>9}{'half, ms':>10}{'99 %, ms':>10}{'other':>7}")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            port = next(int(found[1]) for line in server.stderr if (found := re.search(r"http://.*:(\d+)/", line)))
            asyncio.run(load(port, uploads, 8, 2.0))
            for clients in arguments.clients:
                told, seconds = asyncio.run(load(port, uploads, clients, arguments.seconds))
                answered = [latency for status, latency in told if status == 200]
                note = f"{memory(port):,.0f} MB"
                row(f"served, {clients} clients", answered, seconds, len(told) - len(answered), note)
        finally:
            server.terminate()
    latencies = one_at_a_time(arguments.trained, photos[:200], arguments.cache, arguments.seconds)
    row("one at a time", latencies, sum(latencies), 0, "no server")


if __name__ == "__main__":
    main()
