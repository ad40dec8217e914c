"""A page that runs an exported graph in the browser, with the runtime in it: a folder for any static server.

The runtime is an npm package. `npm` fetches the one version that is known here, from whichever registry it is set to,
and its sha512 tells that it is that one. The cache keeps it.
"""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pipeline.errors import ArtefactError, InputError
from pipeline.models.model import Model
from pipeline.photos.decode import JPEG_SCALING
from pipeline.storage.atomic import published
from pipeline.storage.cache_folder import default_cache

PAGE: Final = Path(__file__).parent / "page"
PACKAGE: Final = "onnxruntime-web"
VERSION: Final = "1.30.0"
SHA512: Final = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
RUNTIME: Final[Mapping[str, str]] = {  # of the package; one build, for processors, with one thread or several
    "package/dist/ort.wasm.bundle.min.mjs": "ort.js",
    "package/dist/ort-wasm-simd-threaded.wasm": "ort.wasm",
}
LICENCES: Final = ("LICENSE", "ThirdPartyNotices.txt")  # the same as of the Python package, where they are files
MODEL: Final = "model.json"


def package(given: Path | None, cache: Path | None) -> Path:
    """Return the npm package of the runtime: the one that is given, else that in the cache, which npm fetches once.

    InputError if there is no npm, it cannot fetch the package, or what is given is another one.
    """
    if given is not None:
        if not given.is_file() or _sha512(given) != SHA512:
            raise InputError.of("onnxruntime_web", f"{PACKAGE} {VERSION} as npm packs it", str(given))
        return given
    kept = (cache or default_cache()) / "npm" / f"{PACKAGE}-{VERSION}.tgz"
    if not kept.is_file() or _sha512(kept) != SHA512:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="npm-", dir=kept.parent) as work, published(kept) as new:
            shutil.copyfile(_fetched(Path(work)), new)
    return kept


def _fetched(work: Path) -> Path:
    npm, wanted = shutil.which("npm"), f"`format='web'`: expected npm to fetch {PACKAGE} {VERSION}"
    remedy = f"give the package as `onnxruntime_web`, a file that npm pack {PACKAGE}@{VERSION} writes on any machine"
    if npm is None:
        raise InputError(f"{wanted}, received no npm: install Node.js, or {remedy}")
    options = ("--cache", str(work / "cache"), "--ignore-scripts", "--loglevel", "error", "--no-update-notifier")
    retries = ("--fetch-retries", "1", "--fetch-retry-mintimeout", "1000", "--fetch-timeout", "60000")
    done = subprocess.run(  # noqa: S603  # a fixed version, whose digest is compared
        [npm, "pack", f"{PACKAGE}@{VERSION}", *options, *retries],
        cwd=work,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    found = work / f"{PACKAGE}-{VERSION}.tgz"
    if done.returncode or not found.is_file():
        told = " ".join(done.stderr.replace("npm error", "").replace("npm ERR!", "").split())[:200]
        raise InputError(f"{wanted}, received of it: {told or f'exit status {done.returncode}'}; else {remedy}")
    if (digest := _sha512(found)) != SHA512:
        raise ArtefactError(f"{PACKAGE} {VERSION}: expected sha512 {SHA512}, received {digest}")
    return found


def _sha512(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


def write(folder: Path, model: Model, runtime: Path) -> None:
    """Write the page for ``model.onnx`` beside it: HTML, what the page is to know of the model, and the runtime.

    `folder` is to be served; `runtime` is of `package`.
    """
    parts = folder / "page"
    parts.mkdir()
    for part in PAGE.iterdir():
        shutil.copyfile(part, (folder if part.suffix == ".html" else parts) / part.name)
    with tarfile.open(runtime) as packed:
        for name, here in RUNTIME.items():
            file = packed.extractfile(name)
            if file is None:
                raise ArtefactError(f"{runtime}: expected a file {name}, received none")
            (parts / here).write_bytes(file.read())
    spec = importlib.util.find_spec("onnxruntime")
    for name in LICENCES:
        if spec and spec.origin and (text := Path(spec.origin).with_name(name)).is_file():
            shutil.copyfile(text, parts / f"ort-{name}")
    known = {
        "name": model.directory.resolve().name,
        "classes": model.classes,
        "threshold": model.threshold,
        "least": JPEG_SCALING * model.size,
    }
    (folder / MODEL).write_text(json.dumps(known, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
