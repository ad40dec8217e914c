"""The graphs in the cache, which engines keep so that they start faster the next time: is each as it was written.

::

    <root>/graphs/<what the graph is of>/openvino-<version>/
"""

import shutil
from pathlib import Path
from typing import Final

from pipeline.backbones.engines import graphs
from pipeline.errors import storing

FOLDER: Final = "graphs"
_DAMAGED: Final = ".damaged"


def kept(root: Path) -> list[Path]:
    """List the kept graphs, but those that were set aside."""
    return sorted(path for path in (root / FOLDER).glob("*/[!.]*") if path.is_dir() and path.suffix != _DAMAGED)


def set_aside(root: Path) -> list[Path]:
    """List those that were set aside."""
    return sorted((root / FOLDER).glob(f"*/*{_DAMAGED}"))


def verify(folder: Path) -> bool:
    """Read a graph in full and return whether it is sound and made for its folder; else set it aside.

    StorageError if the disk fails, or the graph may not be read or set aside.
    """
    with storing(f"{folder}: damaged, and cannot be set aside"):
        if damaged := graphs.is_damaged(folder):
            aside = folder.with_name(f"{folder.name}{_DAMAGED}")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        return not damaged
