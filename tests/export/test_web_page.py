"""The page of an export: its probabilities are the model's, no photo leaves the browser, and npm brings the runtime."""

import base64
import csv
import functools
import hashlib
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.errors import HeadstartError
from pipeline.export import web_page
from pipeline.photos import decode
from stages.__main__ import main
from tests import CHROMIUM, NO_CHROMIUM, NO_NPM
from tests.fakes import write_classes
from tests.onnx_graphs import maps

SIZE = 32  # of the graph
NUMBERS = ("--input-scale", "0.01,0.02,0.03", "--input-offset", "-1,0.5,0")
IN_PAGE = """async ([call, text]) => {
    const answer = await import("./page/answer.js");
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const found = await answer[call](new File([bytes], "photo"));
    if (call === "read") found.pixels = [...found.pixels];
    return found;
}"""


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def photo(seed: int, *sides: int, channels: int = 3) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, channels), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(sides, Image.Resampling.BICUBIC))


# In a browser


class Files(http.server.SimpleHTTPRequestHandler):
    """What `python -m http.server` does, without its log."""

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head on a graph of a few layers, and its export as a page beside it."""
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    try:
        package = web_page.package(None, None)
    except HeadstartError as error:
        pytest.skip(f"{NO_NPM}: {error}")
    place = tmp_path_factory.mktemp("page")
    write_classes(place / "photos", {"dark": 8, "light": 8})
    maps(place / "base.onnx")
    words = (
        ("prepare", "photos", "manifest.csv"),
        ("extract", "photos", "manifest.csv", "features.h5", "--backbone", "onnx:base.onnx", *NUMBERS),
        ("train", "manifest.csv", "features.h5", "head", "--with-weights"),
        ("export", "head", "out", "--format", "web", "--onnxruntime-web", str(package)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("HEADSTART_CACHE", "cache")
        for command, *rest in words:
            result = CliRunner().invoke(main, [command, "-q", *rest])
            assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "web/model.onnx -> out"
    return place / "head"


@pytest.fixture(scope="module")
def browser(head: Path) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(head: Path) -> Iterator[str]:
    handler = functools.partial(Files, directory=str(head.parent / "out" / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def opened(browser: Any, address: str, script: str = "") -> Any:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(20_000)
    page.add_init_script(script)
    page.goto(address)
    page.wait_for_selector("#knows:not(:empty)")
    return page


def test_the_browser_gives_the_probabilities_of_the_model_and_sends_nothing(
    head: Path, browser: Any, address: str, tmp_path: Path
) -> None:
    photos = [photo(0, 40, 30), photo(1, 30, 95), photo(2, SIZE, SIZE), photo(3, 9, 600), photo(4, 50, 41, channels=4)]
    page = opened(browser, address)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
    for place, pixels in enumerate(photos):
        (tmp_path / f"{place}.png").write_bytes(encoded(pixels))
    told = (
        CliRunner().invoke(main, ["predict", "-q", str(head), str(tmp_path), "--cache", str(tmp_path / "cache")]).stdout
    )
    rows = list(csv.DictReader(io.StringIO(told)))
    assert len(rows) == len(photos)
    for row in rows:
        found = page.evaluate(IN_PAGE, ["ask", base64.b64encode(Path(row["path"]).read_bytes()).decode()])
        assert found["label"] == row["label"]
        for name, probability in found["probabilities"].items():
            assert probability == pytest.approx(float(row[f"p_{name}"]), abs=1e-5)
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": encoded(photos[0])})
    page.wait_for_selector("#found[aria-busy=false] #classes button")
    likeliest = float(rows[0][f"p_{rows[0]['label']}"])
    assert page.inner_text("#label").split("\n") == [rows[0]["label"], f"probability {likeliest:.3f}"]
    assert page.inner_text("#where") == "No photo leaves this device: the model runs in this page."
    assert not page.locator("#needs").is_visible()
    assert {line.rpartition("/")[2] for line in asked if not line.startswith("GET blob:")} <= {"model.onnx", "ort.wasm"}
    refused = page.evaluate("fetch('https://elsewhere.example/').then(() => 'sent', (error) => error.name)")
    assert refused == "TypeError"  # by the page's own policy, whatever its scripts want
    page.close()


def test_a_photo_is_decoded_as_for_the_model(browser: Any, address: str) -> None:
    page = opened(browser, address)
    large = encoded(photo(5, 8 * SIZE, 6 * SIZE), "JPEG", quality=95)
    turned = Image.Exif()
    turned[0x0112] = 6
    for data, most in (
        (encoded(photo(6, 50, 41), exif=turned), 0),
        (encoded(photo(7, 50, 41)[..., 0]), 0),
        (encoded(photo(8, 50, 41), "JPEG", exif=turned), 2),  # a browser may have a decoder of its own
        (large, 2),
    ):
        found = page.evaluate(IN_PAGE, ["read", base64.b64encode(data).decode()])
        pixels = np.array(found["pixels"]).reshape(found["height"], found["width"], 3)
        expected = decode.decode_near(data, size=SIZE).astype(int)
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected).mean() <= most
    page.close()


def test_a_browser_that_changes_what_is_read_of_a_picture_is_told_of(browser: Any, address: str) -> None:
    page = opened(
        browser,
        address,
        """const read = CanvasRenderingContext2D.prototype.getImageData;
        CanvasRenderingContext2D.prototype.getImageData = function (...words) {
            const found = read.apply(this, words);
            found.data[40] ^= 1;
            return found;
        };""",
    )
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": encoded(photo(0, 9, 9))})
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error").startswith("This browser changes the pixels that a page reads")
    page.close()


def test_without_a_server_the_page_says_what_it_needs(head: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto((head.parent / "out" / "web" / "index.html").as_uri())
    page.wait_for_selector("#needs")
    assert "python -m http.server" in page.inner_text("#needs")
    page.close()


# The runtime


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of the name that does what the file beside it says, and is the only one on the path."""
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" >> "$0.asked"\n. "$0.does"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(web_page, "SHA512", hashlib.sha512(b"right").hexdigest())
    return program


def does(npm: Path, line: str) -> None:
    npm.with_name("npm.does").write_text(f"{line}\n")


def packs(text: str) -> str:
    return f"printf {text} > {web_page.PACKAGE}-{web_page.VERSION}.tgz"


def test_npm_is_asked_once_and_again_for_what_was_damaged(npm: Path, tmp_path: Path) -> None:
    does(npm, packs("right"))
    kept = web_page.package(None, tmp_path / "cache")
    assert (kept, kept.read_bytes()) == (web_page.package(None, tmp_path / "cache"), b"right")
    assert len(npm.with_name("npm.asked").read_text().splitlines()) == 1
    kept.write_bytes(b"ri")
    assert web_page.package(None, tmp_path / "cache").read_bytes() == b"right"
    assert list(kept.parent.iterdir()) == [kept]
    assert web_page.package(kept, None) == kept


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", r"expected npm to fetch onnxruntime-web [\d.]+, received of it: exit status 0; else give the package as"),
        ("echo npm error code ENOTFOUND >&2; exit 1", "received of it: code ENOTFOUND; else give the package as `onnx"),
        (packs("wrong"), "expected sha512 [0-9a-f]{128}, received [0-9a-f]{128}"),
    ],
)
def test_what_npm_does_not_bring_is_an_error_that_says_what_to_do(
    line: str, message: str, npm: Path, tmp_path: Path
) -> None:
    does(npm, line)
    with pytest.raises(HeadstartError, match=message):
        web_page.package(None, tmp_path / "cache")
    assert list((tmp_path / "cache" / "npm").iterdir()) == []
    npm.unlink()
    with pytest.raises(HeadstartError, match=r"received no npm: install Node\.js, or give the package as"):
        web_page.package(None, tmp_path / "cache")
    (tmp_path / "another.tgz").write_bytes(b"wrong")
    with pytest.raises(HeadstartError, match=r"`onnxruntime_web`: expected onnxruntime-web [\d.]+ as npm packs it"):
        web_page.package(tmp_path / "another.tgz", None)
