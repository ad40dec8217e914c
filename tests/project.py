"""A copy of the project in a folder of its own, where DVC and Git are called as a user calls them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests import ROOT


class Project:
    """A copy of the tracked files in a repository of its own, with a folder of photos named in params.yaml."""

    def __init__(self, root: Path) -> None:
        self.root = root
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_", "HEADSTART"))}
        self.environment = kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(root / "no such home"),
            "XDG_CACHE_HOME": str(root.parent / "cache"),
            "XDG_CONFIG_HOME": str(root.parent / "config"),
            "DVC_SITE_CACHE_DIR": str(root.parent / "site"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Test",
            "GIT_AUTHOR_EMAIL": "test@example.com",
            "GIT_COMMITTER_NAME": "Test",
            "GIT_COMMITTER_EMAIL": "test@example.com",
        }

    def call(self, *command: str) -> str:
        run = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"
        return run.stdout

    def dvc(self, *arguments: str) -> str:
        return self.call("dvc", *arguments)

    def git(self, *arguments: str) -> str:
        return self.call("git", *arguments)

    def ran(self, *arguments: str) -> set[str]:
        return set(re.findall(r"^Running stage '(.+)':$", self.dvc("repro", *arguments), re.MULTILINE))

    def edit(self, **changes: object) -> None:
        """Change params.yaml; a key is dotted, with ``__`` for the dot."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            *sections, name = key.split("__")
            target = params
            for section in sections:
                target = target[section]
            target[name] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def report(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.root / "data/features/report.json").read_text())
        return loaded


def tracked() -> list[str]:
    """The files that Git tracks, and those it would."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [name for name in os.fsdecode(listed.stdout).split("\0") if name and (ROOT / name).is_file()]


def copy_of_the_project(root: Path) -> Project:
    project = Project(root)
    for name in tracked():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    return project
