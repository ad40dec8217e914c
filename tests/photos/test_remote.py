"""Images behind an address: the same features as from a folder, from a local S3 and a local web server."""

import functools
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline.errors import ImageError, InputError, StorageError
from pipeline.features import extract
from pipeline.features.extract import ExtractResult
from pipeline.features.settings import ExecutorSettings
from pipeline.features.workers.executors.executor import open_executor
from pipeline.photos import decode, inspection, layouts, prepare
from pipeline.photos.duplicates import perceptual_hash
from pipeline.photos.prepare import PrepareResult
from pipeline.photos.remote import Address, Entry, Root, _files, located
from pipeline.photos.settings import PrepareSettings
from tests.conftest import decode_here
from tests.fakes import CountingEngine, settings, write_classes

COUNTS = {"a cat & co": 6, "dog%20#1": 5}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server that lists folders, and refuses what is called `secret`, and is out of order when told so."""

    broken: ClassVar[set[str]] = set()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if name == "secret":
            self.send_error(403)
        elif name == "down" or name in self.broken:
            self.broken.discard(name)
            self.send_error(503)
        else:
            super().do_GET()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("photos"), COUNTS)


@pytest.fixture(scope="module")
def here(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is made of the folder itself."""
    out = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        decode_here(patch)
        prepared(photos, out)
    assert extracted(photos, out).computed == 11
    return out


@pytest.fixture(scope="module")
def web(photos: Path) -> Iterator[Address]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(photos)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Address(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def bucket(photos: Path) -> Iterator[Address]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name, value in {
            "ACCESS_KEY_ID": "key",
            "SECRET_ACCESS_KEY": "secret",
            "DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(f"AWS_{name}", value)
        _files.cache_clear()
        files = _files("s3")
        files.mkdir("photos")
        for path in photos.rglob("*.png"):
            files.pipe_file(f"photos/some/{path.relative_to(photos).as_posix()}", path.read_bytes())
        yield Address("s3://photos/some")
    _files.cache_clear()
    server.stop()


@pytest.fixture(params=["web", "bucket"])
def remote(request: pytest.FixtureRequest) -> Address:
    found: Address = request.getfixturevalue(request.param)
    return found


def prepared(root: Root, out: Path) -> PrepareResult:
    return prepare.prepare(
        root,
        out / "manifest.csv",
        PrepareSettings(stratify=True, max_quarantined=0.0, workers=1),
        progress=lambda *_: None,
    )


def listed(here: Path, out: Path) -> None:
    """Put the manifest of the photos into a folder without preparing them anew."""
    for name in ("manifest.csv", "manifest.json"):
        shutil.copy(here / name, out)


def extracted(root: Root, out: Path, **changes: Any) -> ExtractResult:
    return extract.extract(
        root,
        out / "manifest.csv",
        out / "features.h5",
        settings(size=32, cache=out / "cache", batch_size=4),
        progress=lambda *_: None,
        by=extract.By(**{"open_engine": fake, **changes}),
    )


def fake(_: object) -> CountingEngine:
    return CountingEngine()


def test_an_address_gives_the_manifest_and_the_features_of_the_folder(
    here: Path, remote: Address, tmp_path: Path
) -> None:
    prepared(remote, tmp_path)
    assert extracted(remote, tmp_path).computed == 11
    for name in ("manifest.csv", "quarantine.csv", "features.h5", "samples.png"):
        assert (tmp_path / name).read_bytes() == (here / name).read_bytes(), name


def test_worker_processes_read_from_an_address(here: Path, bucket: Address, tmp_path: Path) -> None:
    listed(here, tmp_path)
    with open_executor(ExecutorSettings(executor="dask", workers=2, task_timeout=60.0)) as crew:
        assert extracted(bucket, tmp_path, executor=crew).computed == 11


def test_what_looks_at_pictures_reads_them_from_an_address(photos: Path, remote: Address) -> None:
    data = (photos / "dog%20#1" / "001.png").read_bytes()
    there = inspection.sign((str(remote / "dog%20#1/001.png"), decode.digest(data)))
    assert there == inspection.sign((str(photos / "dog%20#1" / "001.png"), decode.digest(data)))
    assert isinstance(there, perceptual_hash.Signature)


def test_what_is_listed_are_names(remote: Address) -> None:
    assert remote.entries() == [Entry(name, True) for name in sorted(COUNTS)]
    inner = remote / "dog%20#1"
    assert inner.entries() == [Entry(f"{number:03}.png", False) for number in range(5)]


def test_a_file_that_is_not_there_is_the_images_fault(remote: Address) -> None:
    with pytest.raises(ImageError, match=r"^file not found$"):
        decode.read_bytes(remote / "none.png")


def test_a_file_that_may_not_be_read_is_the_images_fault(web: Address) -> None:
    with pytest.raises(ImageError, match=r"^permission denied$"):
        decode.read_bytes(web / "secret")


def test_a_server_that_is_out_of_order_for_a_moment_is_asked_again(
    photos: Path, web: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.photos.remote.PAUSES", (0.01,))
    Quiet.broken.add("001.png")
    assert decode.read_bytes(web / "dog%20#1" / "001.png") == (photos / "dog%20#1" / "001.png").read_bytes()
    with pytest.raises(StorageError, match=r"^http://.*/down: cannot be read: 503"):
        decode.read_bytes(web / "down")


def test_a_server_that_does_not_answer_stops_the_run(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.photos.remote.PAUSES", (0.01,))
    listed(here, tmp_path)
    with pytest.raises(StorageError, match=r"^http://127\.0\.0\.1:9/.*: cannot be read"):
        extracted(Address("http://127.0.0.1:9"), tmp_path)


def test_an_image_that_changed_there_is_named(here: Path, bucket: Address, tmp_path: Path) -> None:
    listed(here, tmp_path)
    files, key = _files("s3"), "photos/some/dog%20#1/001.png"
    before = files.cat_file(key)
    files.pipe_file(key, before + b"x")
    with pytest.raises(InputError, match=r"dog%20#1/001\.png \(it changed since"):
        extracted(bucket, tmp_path)
    files.pipe_file(key, before)
    assert extracted(bucket, tmp_path).computed == 1


def test_a_place_with_nothing_in_it_is_refused(bucket: Address) -> None:
    with pytest.raises(InputError, match="s3://photos/none: expected a folder of images, received nothing"):
        layouts.discover(Address("s3://photos/none"), labels_csv=None, label_pattern=None)


def test_a_text_is_a_folder_unless_it_names_a_protocol() -> None:
    assert located("photos/cat") == Path("photos/cat")
    assert located("file:///data/photos") == Path("/data/photos")
    assert located("s3://bucket/photos/") == Address("s3://bucket/photos")
    assert located("https://host/a") / "b c/ä.jpg" == Address("https://host/a/b%20c/%C3%A4.jpg")
    assert located("s3://b") / "b c/ä.jpg" == Address("s3://b/b c/ä.jpg")


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    _files.cache_clear()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InputError, match=r"^s3://: a package is missing .* pip install 'headstart\[remote\]'"):
        Address("s3://bucket/a.jpg").read()


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(InputError, match=r"^carrier-pigeon://: expected a protocol of fsspec"):
        Address("carrier-pigeon://a/b.jpg").read()
