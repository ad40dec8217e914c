"""The HTTP interface: every request gets an answer of the promised form, or a status and a reason."""

import asyncio
import base64
import io
import json
import re
import struct
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from pipeline.errors import InputError
from pipeline.inference.serving import needed_packages, routes, schemas
from pipeline.inference.serving.model_service import Answer, Ask
from pipeline.inference.serving.needed_packages import NEEDED
from tests.fake_service import Brightness, app_of

Told = TypeVar("Told")
PREDICT = "/v1/models/light:predict"


def png(level: int, size: tuple[int, int] = (12, 10)) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", size, (level, level, level)).save(target, "PNG")
    return target.getvalue()


def bomb(side: int = 30_000) -> bytes:
    """A PNG of a few dozen bytes that says it has 900 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def talk(app: FastAPI, conversation: Callable[[httpx.AsyncClient], Awaitable[Told]]) -> Told:
    """Run a conversation with a started application."""

    async def main() -> Told:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8501") as client,
        ):
            return await conversation(client)

    return asyncio.run(main())


def said(app: FastAPI, method: str, path: str, **request: Any) -> tuple[int, Any]:
    """Send one request; return its status and its JSON."""
    response = talk(app, lambda client: client.request(method, path, **request))
    return response.status_code, response.json()


def uploaded(data: bytes, query: str = "", service: Brightness | None = None) -> tuple[int, Any]:
    return said(app_of(service or Brightness()), "POST", f"/predict{query}", files={"image": ("a.png", data)})


# --- every answer


class Failing(Brightness):
    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        raise RuntimeError("out of order")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/page/page.js", 200),
        ("GET", "/page/page.py", 404),
        ("GET", "/training/bright/0.png", 200),
        ("GET", "/training/../secret", 404),
        ("GET", "/about", 200),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/v1/models/light", 200),
        ("GET", "/v1/models/other", 404),
        ("PUT", "/predict", 405),
        ("POST", "/predict", 400),
        ("POST", PREDICT, 500),
        ("GET", "/nowhere", 404),
    ],
)
def test_no_answer_is_taken_for_another_type_or_by_another_sites_page(method: str, path: str, status: int) -> None:
    body = json.dumps({"instances": [b64(png(9))]}) if path == PREDICT else None
    response = talk(app_of(Failing()), lambda client: client.request(method, path, content=body))
    assert response.status_code == status
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("127.0.0.1:", 200),
        ("[::1]", 200),
        ("[::1]:8501", 200),
        ("[::1].evil.com", 421),
        ("[::1]evil", 421),
        ("::1", 421),
        ("localhost.evil.com", 421),
        ("localhost:80:80", 421),
        ("localhost:evil", 421),
        ("evil@localhost", 421),
        ("localhost/", 421),
        ("localhost ", 421),
        ("", 421),
    ],
)
def test_only_a_host_that_is_wholly_a_name_of_the_server_reaches_it(host: str, status: int) -> None:
    response = talk(app_of(Brightness()), lambda client: client.get("/healthz", headers={"Host": host}))
    assert response.status_code == status
    assert response.headers["cross-origin-resource-policy"] == "same-origin"


# --- an upload


def test_an_upload_gets_its_label_and_all_probabilities() -> None:
    status, answer = uploaded(png(51))
    assert status == 200
    assert (answer["label"], answer["probabilities"]) == ("dark", pytest.approx({"bright": 0.2, "dark": 0.8}))
    assert answer["familiarity"] == pytest.approx(21 / 101)
    assert (answer["kind"], answer["farther"], answer["compared_with"]) == ("familiar", 20, 100)
    assert (answer["nearest"], answer["heat_map"]) == ([], None)


def test_an_upload_gets_what_it_asks_for() -> None:
    service = Brightness()
    _, answer = uploaded(png(255), "?explain=true&about=dark&nearest=2", service)
    kind, _, data = answer["heat_map"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (12, 10)
    assert [one["thumbnail"] for one in answer["nearest"]] == ["/training/bright/0.png", "/training/bright/1.png"]
    assert answer["nearest"][1] | {"thumbnail": None} == {
        "path": "bright/1.png",
        "label": "bright",
        "similarity": 0.9,
        "thumbnail": None,
    }
    assert (service.asks[0].explain, service.asks[0].about, service.asks[0].nearest) == (True, 1, 2)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image: an empty file"),
        (b"no image at all", "image: not an image: expected one of JPEG,"),
        (png(9)[:50], "image: damaged"),
        (png(9, (1001, 500)), "image: too many pixels: expected at most 500,000, received 1001 x 500"),
        (bomb(), "image: too many pixels"),
    ],
)
def test_what_is_no_usable_image_has_status_400_and_the_reason(data: bytes, reason: str) -> None:
    status, answer = uploaded(data)
    assert status == 400
    assert answer["error"].startswith(reason)
    assert answer.keys() == {"error"}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("?about=cat", "about: expected one of the classes, received 'cat'"),
        ("?nearest=51", "query.nearest: Input should be less than or equal to 50"),
        ("?explain=perhaps", "query.explain: Input should be a valid boolean"),
    ],
)
def test_a_query_that_is_not_as_described_has_status_400(query: str, reason: str) -> None:
    status, answer = uploaded(png(9), query)
    assert status == 400
    assert answer["error"].startswith(reason)


@pytest.mark.parametrize(
    ("query", "files", "reason"),
    [
        ("", [("image", png(9)), ("image", png(8))], "expected one file, received 2: image, image"),
        ("", [("image", png(9)), ("photo", png(8))], "expected one file, received 2: image, photo"),
        (
            "?nearest=1&nearest=2",
            [("image", png(9))],
            "expected one value of a parameter, received 2: nearest, nearest",
        ),
    ],
)
def test_of_what_is_sent_twice_none_is_taken_in_silence(query: str, files: Any, reason: str) -> None:
    assert said(app_of(Brightness()), "POST", f"/predict{query}", files=files) == (400, {"error": reason})


def test_a_form_without_an_image_has_status_400() -> None:
    assert said(app_of(Brightness()), "POST", "/predict", files={"photo": png(9)}) == (
        400,
        {"error": "expected multipart/form-data with a file named image, received multipart/form-data"},
    )
    status, answer = said(
        app_of(Brightness()),
        "POST",
        "/predict",
        content=b"--x",
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert (status, answer.keys()) == (400, {"error"})


def test_training_photos_are_shown_and_no_other_files() -> None:
    response = talk(app_of(Brightness()), lambda client: client.get("/training/bright/0.png"))
    assert Image.open(io.BytesIO(response.content)).size == (40, 30)
    for path in ("/training/bright/9.png", "/training/..%2f..%2fetc/passwd", "/training//etc/passwd", "/training/"):
        status, answer = said(app_of(Brightness()), "GET", path)
        assert (status, answer.keys()) == (404, {"error"})


# --- TensorFlow Serving's calls


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"instances": [b64(png(255)), b64(png(51))]}, {"predictions": [[1, 0], [0.2, 0.8]]}),
        ({"instances": [{"image_bytes": b64(png(51))}]}, {"predictions": [[0.2, 0.8]]}),
        ({"inputs": [b64(png(51))]}, {"outputs": [[0.2, 0.8]]}),
        ({"inputs": {"image_bytes": [b64(png(51))]}}, {"outputs": [[0.2, 0.8]]}),
        ({"signature_name": "serving_default", "instances": []}, {"predictions": []}),
    ],
)
def test_probabilities_come_in_rows_or_columns_as_they_were_sent(request_: Any, expected: dict[str, Any]) -> None:
    status, answer = said(app_of(Brightness()), "POST", PREDICT, json=request_)
    assert status == 200
    assert answer.keys() == expected.keys()
    for name, rows in expected.items():
        assert np.array(answer[name]) == pytest.approx(np.array(rows))


def test_the_other_signature_gives_labels() -> None:
    request = {"signature_name": "labels", "instances": [b64(png(255))]}
    row = {"label": "bright", "confidence": 1.0, "probabilities": [1.0, 0.0]}
    assert said(app_of(Brightness()), "POST", PREDICT, json=request) == (200, {"predictions": [row]})
    columns = {"signature_name": "labels", "inputs": [b64(png(255))]}
    expected = {name: [value] for name, value in row.items()}
    assert said(app_of(Brightness()), "POST", PREDICT, json=columns) == (200, {"outputs": expected})


def test_the_body_is_read_as_json_whatever_its_type_is_called() -> None:
    content = b'{"instances": []}'
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        answer = said(app_of(Brightness()), "POST", PREDICT, content=content, headers={"content-type": kind})
        assert answer == (200, {"predictions": []})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Invalid JSON: EOF while parsing"),
        ('{"instances": [', "Invalid JSON: EOF while parsing"),
        ("[1]", "Input should be an object"),
        ("{}", "expected either instances or inputs, received both or neither"),
        ('{"instances": [], "inputs": []}', "expected either instances or inputs, received both or neither"),
        ('{"instances": 5}', "instances: Input should be a valid array"),
        ('{"inputs": 5}', "inputs: expected a list of images, received int"),
        ('{"instances": [5]}', "instance 0: expected {\"b64\": …} with an image file, received '5'"),
        ('{"instances": [{"b64": 5}]}', "instance 0: expected"),
        ('{"instances": [{"b64": "a"}]}', "instance 0: expected base64"),
        ('{"instances": [{"b64": "AAAA"}]}', "instance 0: not an image"),
        ('{"instances": [{}, {}, {}, {}, {}, {}]}', "expected at most 5 images, received 6"),
        (f'{{"instances": [{"[]," * 200}[]]}}', "expected at most 96 brackets and commas, received 403"),
        (f'{{"other": [{"0," * 200}0]}}', "expected at most 96 brackets and commas, received 202"),
        (
            '{"instances": [], "signature_name": "x"}',
            "signature_name: expected serving_default or labels, received 'x'",
        ),
    ],
)
def test_a_request_that_is_not_as_described_has_status_400_and_the_reason(content: str, reason: str) -> None:
    status, answer = said(app_of(Brightness()), "POST", PREDICT, content=content)
    assert status == 400
    assert answer["error"].startswith(reason)


def test_one_bad_image_of_several_is_named() -> None:
    request = {"instances": [b64(png(9)), b64(bomb()), b64(png(9))]}
    status, answer = said(app_of(Brightness()), "POST", PREDICT, json=request)
    assert status == 400
    assert answer["error"].startswith("instance 1: too many pixels")


def test_the_model_tells_its_state_and_its_signatures() -> None:
    app = app_of(Brightness())
    for path in ("/v1/models/light", "/v1/models/light/versions/1"):
        (version,) = said(app, "GET", path)[1]["model_version_status"]
        assert (version["version"], version["state"], version["status"]["error_code"]) == ("1", "AVAILABLE", "OK")
    _, answer = said(app, "GET", "/v1/models/light/metadata")
    assert answer["model_spec"] == {"name": "light", "signature_name": "", "version": "1"}
    assert answer["metadata"]["classes"] == ["bright", "dark"]
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert signatures["serving_default"]["outputs"]["probabilities"]["tensor_shape"]["dim"] == [
        {"size": "-1"},
        {"size": "2"},
    ]
    assert signatures["labels"]["outputs"].keys() == {"label", "confidence", "probabilities"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/other"),
        ("GET", "/v1/models/light/versions/2"),
        ("POST", "/v1/models/other:predict"),
        ("POST", "/v1/models/light/versions/7:predict"),
        ("GET", "/v1/models/other/metadata"),
        ("GET", "/nothing"),
        ("GET", "/page/index.php"),
    ],
)
def test_what_is_not_there_has_status_404(method: str, path: str) -> None:
    status, answer = said(app_of(Brightness()), method, path, content=b"{}" if method == "POST" else None)
    assert (status, answer.keys()) == (404, {"error"})


def test_another_method_has_status_405() -> None:
    assert said(app_of(Brightness()), "GET", "/predict") == (405, {"error": "Method Not Allowed"})


# --- many at once


def test_requests_that_come_at_once_run_as_batches_and_each_gets_its_own_answer() -> None:
    service = Brightness()
    service.free.clear()

    async def conversation(client: httpx.AsyncClient) -> list[httpx.Response]:
        sent = [
            asyncio.create_task(client.post("/predict", files={"image": png(level)})) for level in range(0, 220, 20)
        ]
        while len(service.asks) < 1:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # the others queue
        service.free.set()
        return await asyncio.gather(*sent)

    answers = talk(app_of(service, batch_size=4), conversation)
    bright = [answer.json()["probabilities"]["bright"] for answer in answers]
    assert bright == pytest.approx([level / 255 for level in range(0, 220, 20)])
    assert sum(service.batches) == 11
    assert max(service.batches) == 4
    assert len(service.batches) <= 5


def test_more_than_may_be_at_once_are_told_to_come_again() -> None:
    service = Brightness()
    service.free.clear()

    async def conversation(client: httpx.AsyncClient) -> tuple[httpx.Response, list[int], int]:
        held = [asyncio.create_task(client.post("/predict", files={"image": png(9)})) for _ in range(3)]
        while not service.asks:
            await asyncio.sleep(0.01)
        refused = await client.post("/predict", files={"image": png(9)})
        assert (await client.get("/healthz")).status_code == 200
        service.free.set()
        statuses = [answer.status_code for answer in await asyncio.gather(*held)]
        return refused, statuses, (await client.post("/predict", files={"image": png(9)})).status_code

    refused, statuses, again = talk(app_of(service, at_once=3), conversation)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json() == {"error": "expected at most 3 requests at once"}
    assert (statuses, again) == ([200, 200, 200], 200)


def test_a_body_of_too_many_bytes_has_status_413_whether_it_says_so_or_not() -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 10_000

    app = app_of(Brightness())
    status, answer = said(app, "POST", PREDICT, content=b"x" * 100_001)
    assert (status, answer) == (413, {"error": "expected at most 100,000 bytes, received 100,001"})
    for path, kind in ((PREDICT, "application/json"), ("/predict", "multipart/form-data; boundary=x")):
        status, answer = said(app, "POST", path, content=unannounced(), headers={"content-type": kind})
        assert status in (400, 413)  # the parser of forms may give up first
        assert path == "/predict" or answer == {"error": "expected at most 100,000 bytes, received more"}


def test_a_body_that_takes_too_long_has_status_408() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b'{"instances"'
        await asyncio.sleep(5)
        yield b": []}"

    status, answer = said(app_of(Brightness(), seconds=0.2), "POST", PREDICT, content=slow())
    assert status == 408
    assert answer == {"error": "expected the whole request within 0.2 seconds, received 12 bytes"}


def test_an_answer_that_takes_too_long_has_status_504_and_what_nobody_waits_for_is_not_computed() -> None:
    service = Brightness()
    service.free.clear()

    async def conversation(client: httpx.AsyncClient) -> list[httpx.Response]:
        answers = await asyncio.gather(*(client.post("/predict", files={"image": png(9)}) for _ in range(6)))
        service.free.set()
        return [*answers, await client.post("/predict", files={"image": png(9)})]

    *late, last = talk(app_of(service, batch_size=1, seconds=0.3), conversation)
    assert {answer.status_code for answer in late} == {504}
    assert late[0].json() == {"error": "no answer within 0.3 seconds"}
    assert last.status_code == 200
    assert service.batches == [1, 1]


def test_a_network_that_fails_is_status_500_for_that_batch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Brightness()

    async def conversation(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        with monkeypatch.context() as broken:
            broken.setattr(service, "_one", lambda ask: 1 / 0)
            first = await client.post("/predict", files={"image": png(9)})
        return first, await client.post("/predict", files={"image": png(9)})

    first, second = talk(app_of(service), conversation)
    assert (first.status_code, first.json()) == (500, {"error": "the server failed: ZeroDivisionError"})
    assert second.status_code == 200


# --- the server itself


def test_before_it_starts_and_once_it_stops_it_is_not_ready() -> None:
    app = app_of(Brightness())

    async def main() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            before = [await client.get("/readyz"), await client.post("/predict", files={"image": png(9)})]
            async with app.router.lifespan_context(app):
                before.append(await client.get("/readyz"))
            return [*before, await client.get("/readyz"), await client.get("/healthz")]

    found = asyncio.run(main())
    assert [response.status_code for response in found] == [503, 503, 200, 503, 200]
    assert found[1].headers["retry-after"] == "1"


def test_prometheus_reads_requests_by_status_and_sizes_of_batches() -> None:
    async def conversation(client: httpx.AsyncClient) -> str:
        await client.post("/predict", files={"image": png(9)})
        await client.post("/predict", files={"image": b"x"})
        await client.get("/made-up")
        return (await client.get("/metrics")).text

    text = talk(app_of(Brightness()), conversation)
    assert 'headstart_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert 'headstart_requests_total{method="POST",route="/predict",status="400"} 1.0' in text
    assert 'headstart_requests_total{method="GET",route="other",status="404"} 1.0' in text
    assert "headstart_batch_images_count 1.0" in text
    assert "headstart_requests_under_way 1.0" in text
    assert "made-up" not in text


def test_on_loopback_it_answers_to_its_own_names_only() -> None:
    app = app_of(Brightness())
    for host in ("localhost:8501", "127.0.0.1", "[::1]:8501", "LOCALHOST"):
        assert said(app, "GET", "/healthz", headers={"host": host})[0] == 200
    status, answer = said(app, "GET", "/healthz", headers={"host": "attacker.example"})
    assert status == 421
    assert answer["error"].endswith("received 'attacker.example'")


@pytest.mark.filterwarnings("error")
def test_the_interface_is_described() -> None:
    _, described = said(app_of(Brightness()), "GET", "/openapi.json")
    assert {"/predict", "/v1/models/{name}:predict", "/v1/models/{name}/metadata", "/healthz", "/metrics"} <= set(
        described["paths"]
    )
    call = described["paths"]["/v1/models/{name}:predict"]["post"]
    assert {"200", "400", "413", "429", "504"} <= set(call["responses"])
    assert "instances" in call["requestBody"]["content"]["application/json"]["schema"]["properties"]
    operations = [call["operationId"] for path in described["paths"].values() for call in path.values()]
    assert len(operations) == len(set(operations))
    assert said(app_of(Brightness()), "GET", "/docs")[0] == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_may_ask_by_head(path: str) -> None:
    assert talk(app_of(Brightness()), lambda client: client.head(path)).status_code == 200


def test_the_page_asks_nothing_of_anybody_else() -> None:
    response = talk(app_of(Brightness()), lambda client: client.get("/"))
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["content-type"].startswith("text/html")
    for file, kind in routes.PAGE_FILES.items():
        addresses = re.findall(r"https?://[\w./]+", file.read_text())
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}
        part = talk(app_of(Brightness()), lambda client, name=file.name: client.get(f"/page/{name}"))
        assert part.headers["content-type"].startswith(kind)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NEEDED, "no_such_module", "Nothing")  # type: ignore[index]
    with pytest.raises(InputError, match=r"serve: expected Nothing to be installed: .*headstart\[serve\]"):
        needed_packages.require_installed()


def test_json_is_parsed_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    parsed = schemas.parsed

    def noted(body: bytes, most: int) -> Any:
        threads.append(threading.current_thread().name)
        return parsed(body, most)

    monkeypatch.setattr(schemas, "parsed", noted)
    assert said(app_of(Brightness()), "POST", PREDICT, content=b'{"instances": []}') == (200, {"predictions": []})
    assert [name.partition("_")[0] for name in threads] == ["decoding"]


def test_an_upload_as_large_as_allowed_is_not_written_to_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: pytest.fail("an upload was written to the disk"))
    app = app_of(Brightness(), body_bytes=4_000_000)
    files = {"image": ("a.png", png(9) + b"\0" * 3_000_000)}
    assert said(app, "POST", "/predict", files=files)[0] == 200
