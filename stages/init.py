"""``headstart init``: a DVC project of the user's own.

Its files are templates in ``project/``. The checkout's ``dvc.yaml`` and ``params.yaml`` come of the same ones, where
each stage depends on its code, too.
"""

import importlib.util
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import click
import yaml

from pipeline.errors import InputError
from stages.console import Stage, say, warn
from stages.options.edited_params import IMAGES, require_quotable
from stages.options.paths import FOLDER

TEMPLATES: Final = Path(__file__).with_name("project")
FILES: Final = {
    "dvc.yaml": "dvc.yaml.j2",
    "params.yaml": "params.yaml.j2",
    ".gitignore": "gitignore.j2",
    ".dvcignore": "dvcignore.j2",
    "README.md": "README.md.j2",
}
# What a stage needs that not every installation has, and what the project does without it.
NEEDS: Final = {"export": ("onnx", "onnxruntime")}
WITHOUT: Final = {"export": "the stage export (pip install 'headstart[export]')"}
# One process calls DVC each time, since its import takes a second. Its version is the user's affair: it need not ask.
DVC: Final = """
import sys
from dvc.cli import main
sys.exit(main(sys.argv[1:]) or any(main(['config', f'core.{what}', 'false']) for what in ('analytics', 'check_update')))
"""


@click.command(cls=Stage)
@click.argument("folder", metavar="[DIR]", type=FOLDER, default=Path())
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    metavar="PHOTOS",
    help="The folder of the photos, one folder a class.",
)
def init(folder: Path, images: Path) -> None:
    """Make a project in DIR, here if it is not named: dvc.yaml, params.yaml, and what Git and DVC should leave alone.

    `dvc repro` there runs all steps on the photos. A file that is there already stays as it is. Where there is no Git
    or DVC repository, one is made.
    """
    root, photos = folder.resolve(), images.resolve()
    if root.is_relative_to(photos):
        raise InputError(f"DIR: expected a folder outside the photos in {images}, received {folder}")
    has = {what: all(map(_has, modules)) for what, modules in NEEDS.items()}
    values = {**has, **_names(root, photos)}
    texts = {name: rendered(name, **values) for name in FILES}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        try:
            with (folder / name).open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
        except FileExistsError:
            warn(f"{folder / name}: is there already, and stays as it is")
        else:
            say(str(folder / name))
    if lacking := [words for what, words in WITHOUT.items() if not has[what]]:
        say(f"Left out, for want of packages: {' and '.join(lacking)}")
    ready = _initialised(folder)
    where = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    say(f"{'Next' if ready else 'Then'}: {where}dvc repro")


def rendered(name: str, **values: Any) -> str:
    """Return the text of a file of a project, one of `FILES`.

    `values` are what the templates name: whether dependencies on ``code`` are written, whether there is the stage
    ``export``, and ``images``, the folder as params.yaml has it.
    """
    import jinja2

    found = jinja2.Environment(  # noqa: S701  (no HTML)
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return found.get_template(FILES[name]).render(values)


def _names(root: Path, photos: Path) -> dict[str, str]:
    """Return how the files call the photos: from the project on, if they are in it."""
    inside = photos.is_relative_to(root)
    place = (photos.relative_to(root) if inside else photos).as_posix()
    try:
        place.encode()
    except UnicodeEncodeError:
        raise InputError(f"--images: expected a name in Unicode, received {place!r}") from None
    require_quotable({IMAGES: place})
    special = "".join(f"\\{letter}" if letter in "\\*?[" else letter for letter in place)
    return {"images": _scalar(place), "inside": f"/{special}/" if inside else "", "title": root.name}


def _scalar(text: str) -> str:
    """Return a text as YAML has it, bare where that is the same text."""
    try:
        bare = yaml.safe_load(text) == text and text.isprintable()
    except yaml.YAMLError:
        bare = False
    return text if bare else yaml.safe_dump(text, default_style='"', allow_unicode=True, width=sys.maxsize).strip()


def _initialised(folder: Path) -> bool:
    """Make a Git and a DVC repository where there is none; tell what is missing for that or that both are there."""
    if shutil.which("git") is None:
        warn("Git is not installed here: install it, then `git init` and `dvc init`")
        return False
    if _call(folder, "git", "rev-parse", "--git-dir").returncode:
        _require("git init", folder, "git", "init", "--quiet")
    root = folder.resolve()
    if any((above / ".dvc").is_dir() for above in (root, *root.parents)):
        return True
    words = ["dvc", "init", *([] if (root / ".git").exists() else ["--subdir"])]
    if not _has("dvc"):
        warn(f"DVC is not installed here: pip install 'headstart[dvc]', then `{' '.join(words)}`")
        return False
    _require("dvc init", folder, sys.executable, "-c", DVC, *words[1:])
    return True


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _require(name: str, folder: Path, *command: str) -> None:
    """Run a command that must succeed."""
    ran = _call(folder, *command)
    if ran.returncode:
        why = ran.stderr.partition("\n\n")[0].strip()  # DVC goes on with where to ask for help
        raise InputError(f"{folder}: expected `{name}` to succeed, received {why}")


def _call(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603


if __name__ == "__main__":
    init()
