"""Three hosts, as network namespaces: a scheduler with its driver, and two workers, one of which is cut off."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT, faulty
from tests.features.workers.executors.test_executor import COUNT, Site

PORT = 8786
DRIVER = """
    import sys
    from pathlib import Path
    from pipeline.features.workers import retry
    from tests.features.workers.executors.test_executor import Site, dask
    retry.TASK_IMAGES, retry.LEAST_TASK_IMAGES, retry.RETRIED_IMAGES = 4, 2, (2, 1)
    with dask(scheduler=f"tcp://127.0.0.1:{sys.argv[2]}", task_timeout=6.0) as crew:
        report = Site(Path(sys.argv[1])).extract(crew)
    print(report.computed, report.lost, *sorted({worker.pid for worker in report.workers}))
"""


class Hosts:
    """Namespaces ``hub``, ``one`` and ``two``; the hub has a line to each of the others. Gone with `close`."""

    def __init__(self) -> None:
        self.names = {name: f"headstart-{os.getpid()}-{name}" for name in ("hub", "one", "two")}
        self.running: list[subprocess.Popen[bytes]] = []

    def open(self) -> None:
        for name in self.names.values():
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for number, name in enumerate(("one", "two"), start=1):
            hub, end = self.names["hub"], self.names[name]
            _ip("-n", hub, "link", "add", name, "type", "veth", "peer", "name", "line", "netns", end)
            _ip("-n", hub, "address", "add", f"10.77.{number}.1/30", "dev", name)
            _ip("-n", end, "address", "add", f"10.77.{number}.2/30", "dev", "line")
            _ip("-n", hub, "link", "set", name, "up")
            _ip("-n", end, "link", "set", "line", "up")

    def command(self, host: str, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[host], sys.executable, *words]

    def start(self, host: str, *words: str, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.running.append(subprocess.Popen(self.command(host, *words), cwd=folder, env=environment, **quiet))

    def host_of(self, pid: int) -> str:
        found = subprocess.run(["ip", "netns", "identify", str(pid)], capture_output=True, text=True).stdout.strip()
        return next(host for host, name in self.names.items() if name == found)

    def cut(self, host: str) -> None:
        _ip("-n", self.names["hub"], "link", "set", host, "down")

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if shutil.which("ip") is None:
        pytest.skip("network namespaces are made by `ip`, which is not installed")
    made = Hosts()
    try:
        made.open()
    except subprocess.CalledProcessError as error:
        made.close()
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
    yield made
    made.close()


def test_a_host_that_is_cut_off_while_it_works_costs_its_task_and_the_bytes_are_the_same(
    hosts: Hosts, tmp_path: Path
) -> None:
    site = Site(tmp_path / "shared").make()
    site.fault(faulty.HANG_ONCE)
    dask = ("-m", "dask")
    hosts.start("hub", *dask, "scheduler", "--port", str(PORT), "--no-dashboard", folder=tmp_path)
    for number, host in enumerate(("one", "two"), start=1):
        scheduler = f"tcp://10.77.{number}.1:{PORT}"
        worker = (
            scheduler,
            "--no-nanny",
            "--no-dashboard",
            "--nthreads",
            "1",
            "--local-directory",
            str(tmp_path / host),
        )
        hosts.start(host, *dask, "worker", *worker, folder=tmp_path)
    driver = subprocess.Popen(
        hosts.command("hub", "-c", textwrap.dedent(DRIVER), str(site.root), str(PORT)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    faulty.until(site.faults / faulty.SEEN)
    (slow,) = faulty.noted(site.faults / faulty.SEEN)
    hosts.cut(hosts.host_of(slow))
    site.fault(faulty.GO)  # it goes on all the same, and stores what it was at, late, and tells nobody
    told, errors = driver.communicate(timeout=120)
    assert driver.returncode == 0, errors
    computed, lost, *workers = map(int, told.split())
    assert lost == 1
    assert computed <= COUNT
    assert slow not in workers
    assert site.features.read_bytes() == site.bytes_of_one_process()
