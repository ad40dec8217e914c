"""What the stages left, as one page to look at: a file that needs no network and no other file.

The verdict stands first; then the data, the layers, heads and models, what each gets wrong, a map of the features, and
where all of it comes from. The artefacts of other stages are read, and nothing is computed again but the map and the
neighbours. A part whose artefact was not given says which command makes it. The same inputs give the same bytes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.report import contents, page, thumbnails
from pipeline.report.collect import Inputs, read
from pipeline.report.sections import feature_map, gallery, provenance
from pipeline.report.sections.models import Explain
from pipeline.report.sections.overview import Looks
from pipeline.report.sections.provenance import Commit
from pipeline.report.settings import ReportSettings
from pipeline.report.thumbnails import Atlas
from pipeline.storage.atomic import published
from pipeline.types import Progress

LARGEST: Final = 10_000_000  # bytes of the page, as long as what is no thumbnail leaves room for any
SPARE: Final = 1000  # bytes: numbers that are longer once the thumbnails are there
SPARE_EACH: Final = 4  # bytes for each thumbnail: width and height of up to three digits, where there was a nought


@dataclass(frozen=True)
class ReportResult:
    """What was written.

    Attributes
    ----------
    bytes : int
        Size of the page.
    pictures, mapped : int
        Images with a thumbnail, and on the map.
    warnings : list of str
        What the user should know, one line each.
    """

    bytes: int
    pictures: int
    mapped: int
    warnings: list[str]


def report(
    inputs: Inputs,
    out: Path,
    settings: ReportSettings,
    *,
    commit: Commit | None,
    looks: Looks | None,
    explain: Explain | None,
    progress: Progress,
) -> ReportResult:
    """Write the page.

    Parameters
    ----------
    inputs : Inputs
    out : Path
        The HTML file to publish.
    settings : ReportSettings
    commit : Commit or None
        Of the code, if it is known.
    looks : Looks or None
        How many results on this test split were looked at, if that is known.
    explain : callable or None
        Draws heat maps: given an evaluation, n files and n classes, n pictures, or None for one.
    progress : callable
        Called with (thumbnails made, thumbnails in all).

    Raises
    ------
    ArtefactError
        An input is missing, damaged, or of another run than the others.
    InputError
        Two evaluations have the same name.
    StorageError
        The disk fails.
    """
    found = read(inputs)
    most = min(settings.pictures, feature_map.room(inputs.features))
    chosen = gallery.choose(found.distinct, contents.named(found), map_images=settings.map_images, most=most)
    images = chosen.images
    side = thumbnails.first_side(len(images), LARGEST)
    laid = feature_map.lay_out(
        inputs.features,
        chosen,
        method=settings.map,
        neighbours=settings.neighbours,
        seed=settings.seed,
    )
    loaded, failures = thumbnails.load(inputs.images, images, side=side, progress=progress)
    told = provenance.provenance(
        laid.spec, found, seed=settings.seed, commit=commit, files=contents.files(inputs, found)
    )
    title = settings.title or inputs.images.absolute().stem
    shown = contents.shown(
        inputs,
        title,
        found,
        laid,
        told=told,
        looks=looks,
        explain=explain,
    )
    known = contents.known(found, laid)

    def written(atlas: Atlas) -> bytes:
        return page.render(shown, contents.with_thumbnails(known, atlas), page.sheets(atlas)).encode()

    bare = written(thumbnails.atlas([None] * len(images), 0))
    room = LARGEST - len(bare) - SPARE - SPARE_EACH * len(images)
    atlas = thumbnails.atlas(loaded, max(0, room))
    content = written(atlas)
    with published(out) as temporary:
        temporary.write_bytes(content)
    return ReportResult(len(content), len(images), len(laid.gallery.mapped), contents.warnings(failures, atlas))
