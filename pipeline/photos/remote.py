"""Where images lie: a folder of this machine, or an address that fsspec understands, as ``s3://bucket/photos``.

An `Address` is used as a `Path` is: joined with ``/`` to a path of the manifest, and handed to `decode.read_bytes`. A
request that fails for no reason of the file's is made again, a few times.
"""

import time
import urllib.parse
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from pipeline.errors import ImageError, InputError, StorageError
from pipeline.wording import one_line

PAUSES: Final = (0.5, 2.0)  # seconds before a request is made again
DENIED: Final = (401, 403)
_MARK: Final = "://"
_LOCAL: Final = ("file", "local")
_WEB: Final = ("http", "https")
# Names of the web arrive encoded, and an image is one request.
_OPTIONS: Final[dict[str, dict[str, object]]] = {
    "http": {"encoded": True},
    "https": {"encoded": True},
    "s3": {"max_concurrency": 1},
}


class Entry(NamedTuple):
    """What a folder holds: a file, or a folder, by its name there."""

    name: str
    is_folder: bool


@dataclass(frozen=True)
class Address:
    """A place that is not a path of this machine.

    Attributes
    ----------
    url : str
        With its protocol and without a slash at the end; names of a web server are percent-encoded.
    """

    url: str

    def __truediv__(self, path: str) -> "Address":
        """Return the address of a path below it, as the manifest writes it."""
        return Address(f"{self.url}/{urllib.parse.quote(path) if self._is_web else path}") if path else self

    def __str__(self) -> str:
        return self.url

    def absolute(self) -> "Address":
        """Return itself; every address is absolute."""
        return self

    @property
    def stem(self) -> str:
        """The last part of it, without its suffix."""
        return Path(self.url).stem

    def read(self) -> bytes:
        """Read a whole file.

        ImageError if it is not there, or may not be read; StorageError if nobody answers, or an answer is none, again
        and again; InputError if a package that this protocol needs is not installed.
        """
        data: bytes = self._asked("cat_file")
        return data

    def entries(self) -> list[Entry]:
        """List a folder, sorted by name.

        StorageError if it cannot be listed; InputError if a package that this protocol needs is not installed.
        """
        try:
            found = self._asked("ls", detail=True)
        except ImageError as error:
            raise StorageError(f"{self}: cannot be listed: {error}") from error
        names = [(self._name(entry["name"]), entry["type"] == "directory") for entry in found]
        return sorted(Entry(name, is_folder) for name, is_folder in names if name)

    def is_dir(self) -> bool:
        """Tell whether something lies below it."""
        try:
            return bool(self.entries())
        except StorageError:
            return False

    @property
    def _protocol(self) -> str:
        return self.url.partition(_MARK)[0]

    @property
    def _is_web(self) -> bool:
        return self._protocol in _WEB

    def _name(self, listed: str) -> str:
        """Return the name of what a listing shows; empty for the folder itself and what is not directly in it."""
        below = self.url if self._is_web else self.url.partition(_MARK)[2]
        name = listed.removesuffix("/").removeprefix(below).removeprefix("/")
        return "" if "/" in name or name == listed else urllib.parse.unquote(name) if self._is_web else name

    def _asked(self, method: str, **options: Any) -> Any:
        files, pauses = _files(self._protocol), iter(PAUSES)
        while True:
            try:
                return getattr(files, method)(self.url, **options)
            except FileNotFoundError:
                raise ImageError("file not found") from None
            except PermissionError:
                raise ImageError("permission denied") from None
            except Exception as error:  # each protocol's client has its own tree of errors
                if getattr(error, "status", None) in DENIED:
                    raise ImageError("permission denied") from error
                pause = next(pauses, None)
                if pause is None:
                    reason = one_line(error) or type(error).__name__
                    raise StorageError(f"{self}: cannot be read: {reason}") from error
                time.sleep(pause)


Root: TypeAlias = Path | Address


def located(text: str) -> Root:
    """Return the place that a text names: an address if it has a protocol, else a path; ``file://`` is a path, too."""
    protocol, mark, rest = text.partition(_MARK)
    if not mark:
        return Path(text)
    return Path(rest) if protocol in _LOCAL else Address(text.rstrip("/"))


@lru_cache(maxsize=8)
def _files(protocol: str) -> Any:
    """Open a protocol; one client serves all threads."""
    try:
        import fsspec

        return fsspec.filesystem(protocol, **_OPTIONS.get(protocol, {}))
    except ImportError as error:
        raise InputError(
            f"{protocol}://: a package is missing that reads such addresses: pip install 'headstart[remote]', and "
            f"what fsspec names: {error}"
        ) from error
    except ValueError as error:
        raise InputError(f"{protocol}://: expected a protocol of fsspec: {error}") from error
