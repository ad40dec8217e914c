"""HDF5 as this project writes and trusts it: plain checksummed chunks, the same bytes for the same data, no references.

HDF5 can point into other files, and reads what is missing as zeros; a reader here refuses both. It does not survive a
write that failed, so a writer here keeps failures from it.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, BusyError
from pipeline.storage.regular_files import require_regular

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

File = h5py.File
Dataset = h5py.Dataset
CHUNK_BYTES: Final = 2**19
MOST_CHUNK_ROWS: Final = 256
_DAMAGE: Final = (
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)  # what h5py raises
_CHECKSUM_FILTER: Final = 3  # H5Z_FILTER_FLETCHER32; any other would let a file choose the code that reads it


def open_to_read(path: Path, what: str) -> h5py.File:
    """Open a file that the pipeline wrote.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it should be, for the message: ``features``.

    Raises
    ------
    ArtefactError
        There is none, or it is no HDF5 file.
    BusyError
        Another program writes it.
    """
    try:
        require_regular(path)
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise ArtefactError(f"{path}: expected a file of {what}, found none") from None
    except BlockingIOError:
        raise BusyError(f"{path}: another program has it open to write: wait for it, or close it there") from None
    except OSError as error:
        raise ArtefactError(f"{path}: expected an HDF5 file of {what}: {error}") from error


@contextlib.contextmanager
def written(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Yield an empty HDF5 file to fill, and a function that raises as soon as a write to the disk has failed.

    `path` is an existing file; its content is replaced. OSError, from that function or when the block ends, if the disk
    is full or fails.
    """
    with _Disk(path) as disk:
        try:
            with h5py.File(_created(disk)) as file:
                yield file, disk.check
        finally:
            disk.check()  # it explains whatever HDF5 made of the failure


def _created(disk: "_Disk") -> h5py.h5f.FileID:
    """Create a file whose headers and indices have checksums, which HDF5 writes since 1.10, and no dates."""
    how, what = h5py.h5p.create(h5py.h5p.FILE_ACCESS), h5py.h5p.create(h5py.h5p.FILE_CREATE)
    how.set_fileobj_driver(h5py.h5fd.fileobj_driver, disk)
    how.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    how.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    what.set_obj_track_times(False)
    return h5py.h5f.create(repr(disk).encode(), h5py.h5f.ACC_TRUNC, fcpl=what, fapl=how)


class _Disk(io.RawIOBase):
    """A file whose writes never fail in the eyes of HDF5.

    After a failed write HDF5 can neither close its file nor forget it: the process crashes, there or when it ends.
    So the first error is kept for whoever calls `check`, and what HDF5 writes after it goes nowhere.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error:
            raise self._error

    def write(self, data: "ReadableBuffer") -> int:
        left = memoryview(data).cast("B")
        count = len(left)
        try:
            while left and not self._error:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._error = error
        return count

    def truncate(self, size: int | None = None) -> int:
        try:
            if not self._error:
                self._file.truncate(size)
        except OSError as error:
            self._error = error
        return size or 0

    def readinto(self, buffer: "WriteableBuffer") -> int:
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def create(file: h5py.File, name: str, shape: tuple[int, ...], dtype: str) -> h5py.Dataset:
    """Create a dataset in chunks of whole rows with a checksum each, and without dates.

    `name` may be that of one in a group: ``group/dataset``. The first axis of `shape` counts rows.
    """
    group, _, _ = name.rpartition("/")
    if group and group not in file:
        how = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
        how.set_obj_track_times(False)
        h5py.h5g.create(file.id, group.encode(), gcpl=how)
    row_bytes = max(1, int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize)
    chunk_rows = max(1, min(MOST_CHUNK_ROWS, CHUNK_BYTES // row_bytes, shape[0]))
    chunks = (chunk_rows, *shape[1:]) if shape[0] else None
    return file.create_dataset(name, shape, dtype, chunks=chunks, fletcher32=chunks is not None, track_times=False)


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset of a file that may be hostile or damaged.

    ArtefactError if it is missing, is reached by a soft or external link, is virtual, keeps its bytes in another file,
    asks for a filter other than the checksum, or claims a shape for which the file holds no bytes.
    """
    where = f"{file.filename}: /{name}"
    try:
        return _plain_dataset(file, name, where)
    except _DAMAGE as error:
        raise ArtefactError(f"{where} cannot be opened, the file is damaged ({error})") from error


def _plain_dataset(file: h5py.File, name: str, where: str) -> h5py.Dataset:
    group, _, _ = name.rpartition("/")
    links = [file.get(path, getlink=True) for path in (group, name) if path]
    link = links[-1]
    found = file[name] if all(isinstance(one, h5py.HardLink) for one in links) else None
    if not isinstance(found, h5py.Dataset):
        raise ArtefactError(f"{where}: expected a dataset of the file's own, received {type(found or link).__name__}")
    if found.is_virtual or found.external:
        raise ArtefactError(f"{where}: expected bytes of the file's own, received a reference to another file")
    filters = found.id.get_create_plist()
    if any(filters.get_filter(place)[0] != _CHECKSUM_FILTER for place in range(filters.get_nfilters())):
        raise ArtefactError(f"{where}: expected no filter but the checksum")
    if found.id.get_storage_size() < found.nbytes:
        raise ArtefactError(f"{where} claims {found.nbytes:,} bytes and holds {found.id.get_storage_size():,}")
    return found


def has_group(file: h5py.File, name: str) -> bool:
    """Tell whether a file has a group of its own; ArtefactError if the file is too damaged to tell."""
    try:
        return isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Group)
    except _DAMAGE as error:
        raise ArtefactError(f"{file.filename}: /{name} cannot be opened, the file is damaged ({error})") from error


def read(source: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    """Read rows [start, stop); ArtefactError where a checksum does not hold or bytes are missing."""
    try:
        rows: NDArray[Any] = source[start:stop]
    except _DAMAGE as error:
        raise ArtefactError(
            f"{source.file.filename}: rows {start:,} to {stop:,} of {source.name} are damaged ({error})"
        ) from error
    return rows


def write_text_attribute(file: h5py.File, name: str, text: str) -> None:
    """Write a text attribute of fixed length, which stands in the file's header."""
    data = text.encode()
    file.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", len(data)))


def has_attribute(file: h5py.File, name: str) -> bool:
    """Tell whether a file has an attribute; ArtefactError if the file is too damaged to tell."""
    try:
        return name in file.attrs
    except _DAMAGE as error:
        raise ArtefactError(f"{file.filename}: its attributes cannot be read, the file is damaged ({error})") from error


def text_attribute(file: h5py.File, name: str) -> str:
    """Return a text attribute of a file; ArtefactError if it is missing, no text, or of variable length.

    One flipped bit where HDF5 keeps texts of variable length lets it look for one without end.
    """
    try:
        kind = file.attrs.get_id(name).get_type()
        if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str():
            raise ValueError("one of another type, as an earlier version left it")
        return bytes(file.attrs[name]).decode()
    except _DAMAGE as error:
        raise ArtefactError(
            f"{file.filename}: expected a text attribute {name!r}, received: {error}; run `hs.extract` again"
        ) from error
