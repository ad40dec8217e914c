"""Open a weights file of a stranger: HDF5, or a zip archive that holds it, and nothing that leads elsewhere.

HDF5 can make a file read other files (external storage, external links, virtual datasets: CVE-2026-1669), and unpack a
few bytes to more than the memory holds. So links and foreign storage are refused anywhere in the file.
"""

import contextlib
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import h5py

from pipeline.errors import WeightsError, storing

ARCHIVE_MEMBER: Final = "model.weights.h5"
MAX_EXPANSION: Final = 100  # an archive member larger than this many times its compressed size is no weights file
MAX_CHUNK: Final = 2**28  # bytes that HDF5 unpacks at once; Keras does not pack
HDF5_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC: Final = b"PK\x03\x04"
MAX_OBJECTS: Final = 20_000  # arrays, groups and names of layers; a base of the table has some thousands


def is_weights_file(path: Path) -> bool:
    """Whether the file begins as HDF5 or as a zip archive does."""
    with path.open("rb") as file:
        return file.read(len(HDF5_MAGIC)).startswith((HDF5_MAGIC, ZIP_MAGIC))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Yield the HDF5 file that a weights file is, or holds.

    WeightsError if anything in it refers to another place, or would take memory or time beyond reason; StorageError if
    the folder for temporary files is full; and whatever h5py or zipfile say of a damaged file.
    """
    with contextlib.ExitStack() as stack:
        source: Any = path
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            source = stack.enter_context(tempfile.TemporaryFile())  # HDF5 seeks, which a compressed member cannot
            _extract(archive, source)
        file = stack.enter_context(h5py.File(source, "r"))
        _refuse_references(file)
        yield file


def _extract(archive: zipfile.ZipFile, target: Any) -> None:
    if ARCHIVE_MEMBER not in archive.namelist():
        raise WeightsError(f"expected an archive with {ARCHIVE_MEMBER}, received {', '.join(archive.namelist()[:5])}")
    member = archive.getinfo(ARCHIVE_MEMBER)
    if member.file_size > MAX_EXPANSION * member.compress_size:
        raise WeightsError(f"expected weights, received a member that expands {MAX_EXPANSION}-fold and more")
    with storing(f"{tempfile.gettempdir()}: cannot unpack weights there"), archive.open(member) as compressed:
        shutil.copyfileobj(compressed, target)
        target.flush()


def _refuse_references(file: h5py.File) -> None:
    """Raise WeightsError if anything in the file refers to another place or stands in two, or it holds too much."""
    root = file["/"]
    seen, waiting = {_address(root)}, [root]
    while waiting:
        group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                kind = "broken link" if link is None else type(link).__name__
                raise WeightsError(f"expected arrays, received a link ({kind}) at {group.name}: {name}")
            item = group[name]
            if (address := _address(item)) in seen:  # what stands in many places is read many times
                raise WeightsError(f"expected each object in one place, received another link at {group.name}: {name}")
            seen.add(address)
            if len(seen) > MAX_OBJECTS:
                raise WeightsError(f"expected weights, received more than {MAX_OBJECTS:,} objects")
            if isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise WeightsError(f"expected arrays in the file itself, received foreign storage at {item.name}")
                if item.chunks and math.prod(item.chunks) * item.dtype.itemsize > MAX_CHUNK:
                    raise WeightsError(
                        f"expected chunks of at most {MAX_CHUNK:,} bytes, received larger at {item.name}"
                    )
            elif isinstance(item, h5py.Group):
                waiting.append(item)


def _address(item: Any) -> int:
    """Return where in the file an object stands."""
    return int(h5py.h5o.get_info(item.id).addr)
