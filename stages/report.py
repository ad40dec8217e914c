"""``headstart report``: one page of all that the stages left, to be looked at."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.models.settings import Runtime
from pipeline.photos.remote import Root
from pipeline.report.settings import ReportSettings
from pipeline.setting import build, described
from stages import history
from stages.console import Stage, progress, warn
from stages.options.of_settings import options
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
@click.option("--probe", type=_PATH, help="CUT.json of `probe`, with the tables beside it: the plot of layers.")
@click.option("--extraction", type=_PATH, help="Report of `extract`: images forwarded and reused.")
@click.option("--audit", type=_PATH, help="Folder that `audit` wrote.")
@click.option(
    "--trained", type=_PATH, multiple=True, help="Heads or models, or a folder of such: parameters and search. Repeat."
)
@click.option("--comparison", type=_PATH, help="Folder that `compare` wrote: the verdict.")
@click.option("--reports", type=_PATH, help="Folder with NAME.json of `train --report`: what each training took.")
@click.option(
    "--heat-maps",
    is_flag=True,
    help="Show where in a mistaken picture a model saw what it took it for; it is run for that. Needs --trained.",
)
@click.option("--weights", help="Of the base, for --heat-maps, as in extract.  [default: those of the training]")
@options(ReportSettings)
@click.option(
    "--git/--no-git",
    default=True,
    show_default=True,
    help="Tell the commit, and how many results the history holds; without, the page depends on its inputs alone.",
)
@options(Runtime, only=("cache",))
def report(
    images: Root,
    manifest: Path,
    features: Path,
    evaluations: tuple[Path, ...],
    page: Path,
    git: bool,
    heat_maps: bool,
    weights: str | None,
    cache: Path,
    **chosen: Any,
) -> None:
    """Bring verdict, data, layers, heads, errors, a map and provenance together in one file, REPORT.html.

    OUT_DIRs are folders that `evaluate` wrote, or folders of such folders. The file needs no network.
    """
    from pipeline.evaluation import compare
    from pipeline.report import report
    from pipeline.report.collect import Inputs
    from pipeline.report.sections.heatmaps import HeatMaps

    settings = build(ReportSettings, chosen)
    given = {name: value for name, value in chosen.items() if name not in described(ReportSettings)}
    inputs = Inputs(images, manifest, features, evaluations, **given)
    explain = HeatMaps(inputs.trained, weights=weights, cache=cache) if heat_maps else None
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
    click.echo(f"{summary.pictures:,} pictures, {summary.mapped:,} on the map, {summary.bytes / 1e6:.1f} MB -> {page}")


def _commit(root: Path) -> "Commit | None":
    """Return the commit that the folder is at; None without Git, or where nothing was committed."""
    from pipeline.report.sections.provenance import Commit

    try:
        name = history.git(root, "rev-parse", "HEAD").strip()
        changed = bool(history.git(root, "status", "--porcelain", "--untracked-files=no", "--", *CODE).strip())
    except (OSError, subprocess.CalledProcessError):
        return None
    return Commit(name, changed)


def _looks(folders: list[Path]) -> "Looks":
    from pipeline.report.sections.overview import Looks

    return Looks(*history.results(folders, Path.cwd()))


if __name__ == "__main__":
    report()
