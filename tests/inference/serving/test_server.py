"""A server in a process of its own: hostile clients get a status or are hung up on, and it goes on as before."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest

from tests import ROOT, faulty
from tests.inference.serving.test_routes import bomb, png

SECONDS = 1.0  # for a request to arrive and be answered
BOUNDARY = "photo"
HEAD = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"


class Running:
    """The fake service, served."""

    def __init__(self, seconds: float, delay: float, descriptors: int = 256) -> None:
        command = [sys.executable, "-m", "tests.fake_service", str(seconds), str(delay)]
        limited = ["sh", "-c", f'ulimit -n {descriptors} && exec "$0" "$@"', *command]
        self.told = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- as long as the process
        self.process = subprocess.Popen(limited, cwd=ROOT, stdout=subprocess.PIPE, stderr=self.told, text=True)
        assert self.process.stdout is not None
        address = self.process.stdout.readline().strip()
        self.port = int(address.rstrip("/").rpartition(":")[2])

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        found = response.status, response.read()
        connection.close()
        return found

    def upload(self, data: bytes) -> tuple[int, dict[str, object]]:
        status, answer = self.ask(
            "POST", "/predict", form(data), **{"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        )
        return status, json.loads(answer)

    def measure(self, name: str) -> float:
        text = self.ask("GET", "/metrics")[1].decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def send(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(data)
        return connection

    def said(self, data: bytes) -> bytes:
        """Send bytes, and read until the server hangs up."""
        with self.send(data) as connection:
            parts = []
            while part := connection.recv(65_536):
                parts.append(part)
            return b"".join(parts)

    def open_descriptors(self) -> int:
        return int(self.measure("process_open_fds"))

    def complaints(self) -> str:
        """What it has told on stderr so far."""
        self.told.seek(0)
        return self.told.read()

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def form(data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    running = Running(SECONDS, 0.0)
    yield running
    assert running.stop(signal.SIGTERM) == 0
    assert "Traceback" not in running.complaints()


def test_a_photo_gets_its_label(server: Running) -> None:
    status, answer = server.upload(png(255))
    assert (status, answer["label"]) == (200, "bright")


def test_a_head_that_never_ends_is_hung_up_on(server: Running) -> None:
    started = time.monotonic()
    with server.send(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") as connection:
        stopped = threading.Event()
        dripping = threading.Thread(target=drip, args=(connection, stopped))
        dripping.start()
        try:
            assert connection.recv(100) == b""
        except ConnectionResetError:
            pass
        finally:
            stopped.set()
            dripping.join()
    assert time.monotonic() - started < 10 * SECONDS


def drip(connection: socket.socket, stopped: threading.Event) -> None:
    try:
        while not stopped.wait(0.1):
            connection.sendall(b"a")
    except OSError:
        pass


def test_a_second_request_may_not_take_for_ever_either(server: Running) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = server.said(request + b"GET /healthz HTTP/1.1\r\nHost: ")
    assert answer.count(b"HTTP/1.1 200") == 1


def test_a_body_that_takes_too_long_has_status_408(server: Running) -> None:
    answer = server.said(f"{HEAD}Content-Length: 1000\r\n\r\n--photo".encode())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"expected the whole request within 1 seconds, received 7 bytes" in answer


def test_a_huge_upload_has_status_413_before_it_is_sent(server: Running) -> None:
    answer = server.said(f"{HEAD}Content-Length: 10000000000\r\n\r\n--photo".encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"expected at most 100,000 bytes, received 10,000,000,000" in answer


def test_what_is_no_http_has_status_400(server: Running) -> None:
    assert server.said(b"\x16\x03\x01\x02\x00\x01\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_hostile_requests_leave_nothing_behind(server: Running) -> None:
    def round_of_them() -> None:
        for _ in range(40):
            assert server.upload(b"not an image")[0] == 400
            assert server.upload(bomb())[0] == 400
            assert server.ask("POST", "/v1/models/light:predict", b'{"instances": [')[0] == 400
            server.send(f"{HEAD}Content-Length: 90000\r\n\r\n".encode() + b"x" * 45_000).close()  # aborted
            assert server.upload(png(0))[1]["label"] == "dark"

    round_of_them()
    before = server.measure("process_resident_memory_bytes")
    round_of_them()
    assert server.measure("process_resident_memory_bytes") - before < 8e6  # 80 aborted halves alone would be 3.6 MB
    for _ in range(100):
        if server.measure("headstart_requests_under_way") == 1:  # this one
            break
        time.sleep(0.1)
    assert server.measure("headstart_requests_under_way") == 1


GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = "POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="two lengths"),
        pytest.param(GET + b"Content-Length: 3, 4\r\n\r\n", id="two values of a length"),
        pytest.param(GET + b"Host: localhost\r\n\r\n", id="two hosts"),
        pytest.param(GET.replace(b"Host", b"Toast") + b"\r\n", id="no host"),
        pytest.param(CHUNKED.format("/predict").encode() + b"zz\r\n", id="an upload of broken chunks"),
        pytest.param(CHUNKED.format("/v1/models/light:predict").encode() + b"zz\r\n", id="JSON of broken chunks"),
        pytest.param(CHUNKED.format("/nope").encode() + b"zz\r\n", id="broken chunks for nobody"),
        pytest.param(b"no HTTP\r\n\r\n", id="no HTTP"),
    ],
)
def test_what_could_be_taken_in_two_ways_is_refused_and_the_connection_closed(server: Running, request_: bytes) -> None:
    answer = server.said(request_ + GET + b"\r\n")
    assert re.match(rb"HTTP/1.1 40[04] ", answer)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"x-content-type-options: nosniff" in answer
    assert b"cross-origin-resource-policy: same-origin" in answer


@pytest.mark.parametrize("path", ["/predict", "/v1/models/light:predict", "/nope"])
def test_a_client_that_goes_away_in_the_middle_of_a_body_is_no_failure(server: Running, path: str) -> None:
    failures = 'headstart_requests_total{method="POST",route="%s",status="500"}'
    for _ in range(3):
        server.send(CHUNKED.format(path).encode()).close()
    faulty.until(lambda: server.measure("headstart_requests_under_way") == 1)
    assert server.measure(failures % path.partition(":")[0].replace("/light", "")) == 0


def test_who_does_not_read_the_answer_is_hung_up_on(server: Running) -> None:
    before = server.open_descriptors()
    slow = []
    for _ in range(8):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
        slow.append(connection)
    faulty.until(lambda: server.open_descriptors() >= before + 8)
    faulty.until(lambda: server.open_descriptors() <= before)
    for connection in slow:
        connection.close()


def test_more_idle_connections_than_descriptors_keep_nobody_from_an_answer_and_are_not_complained_of() -> None:
    running = Running(10.0, 0.0, descriptors=64)
    idle = []
    for _ in range(120):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", running.port))
        idle.append(connection)
    try:
        assert running.upload(png(255))[1]["label"] == "bright"
        assert running.open_descriptors() < 64
    finally:
        for connection in idle:
            connection.close()
    assert running.stop(signal.SIGTERM) == 0
    assert running.complaints() == ""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_what_is_under_way_is_finished_before_it_stops(number: int, status: int) -> None:
    running = Running(10.0, 1.0)
    answers: list[tuple[int, dict[str, object]]] = []
    asking = [threading.Thread(target=lambda: answers.append(running.upload(png(255)))) for _ in range(3)]
    for thread in asking:
        thread.start()
    while running.measure("headstart_requests_under_way") < 4:
        time.sleep(0.02)
    assert running.stop(number) == status
    for thread in asking:
        thread.join()
    assert [(status, answer["label"]) for status, answer in answers] == [(200, "bright")] * 3
    with pytest.raises(ConnectionRefusedError):
        running.send(b"")
