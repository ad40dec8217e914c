"""``headstart report``: one page of all that the stages left, to be looked at."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.photos.remote import Root
from pipeline.report.settings import ReportSettings
from pipeline.wording import counted
from stages import history
from stages.console import Stage, progress, say, warn
from stages.options.of_settings import options, settings_of
from stages.options.paths import FILE, PLACE

if TYPE_CHECKING:
    from pipeline.report.sections.overview import Looks
    from pipeline.report.sections.provenance import Commit

CODE = ("pipeline", "stages", "params.yaml")  # dvc.lock changes with every run
_PATH = click.Path(path_type=Path)


@click.command(cls=Stage)
@click.argument("images", type=PLACE)
@click.argument("manifest", metavar="MANIFEST.csv", type=_PATH)
@click.argument("features", metavar="FEATURES.h5", type=_PATH)
@click.argument("evaluations", metavar="OUT_DIR...", type=_PATH, nargs=-1, required=True)
@click.argument("page", metavar="REPORT.html", type=FILE)
@options(ReportSettings)
@click.option(
    "--git/--no-git",
    default=True,
    show_default=True,
    help="Show the commit, and how many results the history holds; without, the page depends on its inputs alone.",
)
def report(
    images: Root,
    manifest: Path,
    features: Path,
    evaluations: tuple[Path, ...],
    page: Path,
    git: bool,
    **chosen: Any,
) -> None:
    """Bring verdict, data, layers, heads, errors, a map and provenance together in one file, REPORT.html.

    OUT_DIRs are folders that `evaluate` wrote, or folders of such folders. The file needs no network.
    """
    from pipeline.evaluation import compare
    from pipeline.report import report
    from pipeline.report.collect import Inputs
    from pipeline.report.sections.heatmaps import HeatMaps

    settings = settings_of(ReportSettings, chosen)
    inputs = Inputs.of(images, manifest, features, evaluations, settings)
    explain = HeatMaps.of(settings)
    with progress("pictures") as advance:
        summary = report.report(
            inputs,
            page,
            settings,
            commit=_commit(Path.cwd()) if git else None,
            looks=_looks(compare.expand(evaluations)) if git else None,
            explain=explain,
            progress=advance,
        )
    for warning in (*summary.warnings, *(explain.warnings if explain else ())):
        warn(warning)
    say(
        f"{counted(summary.pictures, 'picture')}, {summary.mapped:,} on the map, {summary.bytes / 1e6:.1f} MB -> {page}"
    )


def _commit(root: Path) -> "Commit | None":
    """Return the commit that the folder is at; None without Git, or where nothing was committed."""
    from pipeline.report.sections.provenance import Commit

    try:
        name = history.git(root, "rev-parse", "HEAD").strip()
        changed = history.is_changed(root, CODE)
    except (OSError, subprocess.CalledProcessError):
        return None
    return Commit(name, changed)


def _looks(folders: list[Path]) -> "Looks":
    from pipeline.report.sections.overview import Looks

    return Looks(*history.results(folders, Path.cwd()))


if __name__ == "__main__":
    report()
