"""The Dockerfile: what the wheel is built of reaches it and nothing else; the server has no rights and is asked."""

import re
import tomllib

from pipeline.inference.serving.routes import ROUTES
from stages.__main__ import COMMANDS
from tests import ROOT

LINES = (ROOT / "Dockerfile").read_text()


def test_what_the_wheel_is_built_of_is_let_in_and_nothing_else() -> None:
    everything, *let_in = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] in ("*", "!")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    needed = {*wheel, project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
    assert everything == "*"
    assert {line for line in let_in if line[0] == "!"} == {f"!{name}" for name in needed | {"requirements.lock"}}


def test_it_serves_without_rights_and_its_health_check_asks_a_route() -> None:
    assert re.findall(r"^USER (.*)$", LINES, re.MULTILINE) == ["10001"]
    assert re.search(r"127\.0\.0\.1:8501(/\w+)", LINES)[1] in ROUTES  # type: ignore[index]
    assert re.search(r'^ENTRYPOINT \["headstart", "(\w+)"', LINES, re.MULTILINE)[1] in COMMANDS  # type: ignore[index]
