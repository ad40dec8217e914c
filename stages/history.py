"""How many results on a test split the project's history holds: each look at it makes the next number less honest.

Every commit holds a ``dvc.lock`` that names, by hash, the manifest that an evaluation read and the metrics that it
wrote; DVC keeps its experiments as commits, too. So Git alone knows all results that were kept. Those that nobody
committed are unknown: the count is "at least".
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.storage.json_files import require_listed
from pipeline.storage.regular_files import require_regular

LOCK, METRICS, MANIFEST = "dvc.lock", "metrics.json", "manifest.csv"
# The configuration of a repository can name programs, and a folder that somebody sends can be one. Of what is asked
# here, these would run them. `status` and `diff` run filters, too, which no option turns off: nobody asks for these.
HARMLESS = ("-c", "core.fsmonitor=false", "-c", "log.showSignature=false", "-c", "core.hooksPath=/dev/null")
NO_FETCHING = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}


def results(out_dirs: Sequence[Path], root: Path) -> tuple[int, bool]:
    """Count the distinct results on the test split of some evaluations.

    Two results are on the same test split if they come from the same manifest, to the byte. They are distinct if their
    ``metrics.json`` differ.

    Parameters
    ----------
    out_dirs : sequence of Path
        Evaluations; their own results count, too.
    root : Path
        The folder that holds ``dvc.lock``.

    Returns
    -------
    results : int
    in_git : bool
        False if there is no Git, or no repository: then only those given, and those of ``dvc.lock`` as it is, count.

    Raises
    ------
    ArtefactError
        A ``metrics.json`` is not as it was written.
    """
    given = {hashlib.md5(_metrics(folder), usedforsecurity=False).hexdigest() for folder in out_dirs}
    kept, in_git = _locks(root)
    stages = {stage for lock in kept for stage in _stages(lock)}  # most commits share them, and YAML is slow to read
    looked = {pair for stage in stages for pair in _evaluations(stage)}
    manifests = {manifest for manifest, metrics in looked if metrics in given}
    return len(given | {metrics for manifest, metrics in looked if manifest in manifests}), in_git


def _metrics(folder: Path) -> bytes:
    require_regular(folder / METRICS)
    data = (folder / METRICS).read_bytes()
    require_listed(folder / METRICS, data, "`hs.evaluate`")
    return data


def _locks(root: Path) -> tuple[list[str], bool]:
    """Return the text of every ``dvc.lock`` that a commit on any branch or of any experiment holds, and the present."""
    present = [(root / LOCK).read_text(encoding="utf-8", errors="replace")] if (root / LOCK).is_file() else []
    try:
        raw = git(root, "log", "--all", "-m", "--raw", "--no-abbrev", "--format=", "--", LOCK)
        blobs = sorted(set(re.findall(r"\b[0-9a-f]{40,64}\b", raw)))
        there = [blob for blob in blobs if blob.strip("0")]  # zeros stand for a file that is not there
        return [*(git(root, "cat-file", "blob", blob) for blob in there), *present], True
    except (OSError, subprocess.CalledProcessError):
        return present, False


def git(root: Path, *arguments: str) -> str:
    """Return what Git prints; OSError where there is none, CalledProcessError where it fails."""
    run = subprocess.run(  # noqa: S603, the arguments are ours, and there is no shell
        ["git", *HARMLESS, *arguments],  # noqa: S607, whichever Git the user has
        cwd=root,
        env=os.environ | NO_FETCHING,
        capture_output=True,
        check=True,
        encoding="utf-8",
        errors="replace",
    )
    return run.stdout


def is_changed(root: Path, paths: Sequence[str]) -> bool:
    """Whether files below some paths differ from the commit that a repository is at; errors as for `git`."""
    for line in filter(None, git(root, "ls-tree", "-r", "-z", "HEAD", "--", *paths).split("\0")):
        about, _, name = line.partition("\t")
        kind, blob = about.split()[1:]
        if kind == "blob" and not _holds(root / name, blob):
            return True
    return False


def _holds(path: Path, blob: str) -> bool:
    """Whether a file holds what Git names so, or does once its lines end as on other systems."""
    if path.is_symlink():
        data = os.fsencode(path.readlink())
    elif path.is_file():
        data = path.read_bytes()
    else:
        return False
    kind = "sha1" if len(blob) == 40 else "sha256"
    texts = (data, data.replace(b"\r\n", b"\n"))
    return any(hashlib.new(kind, b"blob %d\0" % len(one) + one).hexdigest() == blob for one in texts)


def _stages(lock: str) -> list[str]:
    """Return the evaluations of a ``dvc.lock``, each as a lock of its own.

    One that is not laid out as DVC lays it out comes back whole.
    """
    _, *parts = re.split(r"\n  (?=[^\s:])", lock)  # below a "? long name" stands a ":"
    return [f"stages:\n  {part}" for part in parts if _may_hold(part)] or [lock] * _may_hold(lock)


def _may_hold(text: str) -> bool:
    return METRICS in text and MANIFEST in text


def _evaluations(lock: str) -> Iterator[tuple[str, str]]:
    """Yield (hash of the manifest, hash of the metrics) of each evaluation in a ``dvc.lock``."""
    import yaml

    try:
        document = yaml.safe_load(lock)
    except (yaml.YAMLError, RecursionError):
        return  # a conflict that somebody committed
    stages = document.get("stages") if isinstance(document, dict) else None
    for stage in stages.values() if isinstance(stages, dict) else ():
        read, wrote = _hashes(stage, "deps"), _hashes(stage, "outs")
        for metrics in (md5 for path, md5 in wrote if Path(path).name == METRICS):
            yield from ((md5, metrics) for path, md5 in read if Path(path).name == MANIFEST)


def _hashes(stage: Any, kind: str) -> list[tuple[str, str]]:
    items = stage.get(kind) if isinstance(stage, dict) else None
    return [
        (item["path"], item["md5"])
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict) and all(isinstance(item.get(key), str) for key in ("path", "md5"))
    ]
