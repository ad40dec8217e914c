"""``headstart cache``: what the row cache holds, whether it is sound, what of it can go, and why a row is not there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pipeline.errors import SettingError
from pipeline.features.settings import ExtractSettings, FeatureSettings, ViewSettings
from pipeline.setting import described
from pipeline.wording import counted
from stages.console import Stage, progress, say, show_table, warn
from stages.options.of_settings import given, options, settings_of

if TYPE_CHECKING:
    from pipeline.features.cache.inventory import Cached

SETTINGS: Final = ("backbone.name", "size", "resize", "cut", "pooling", "precision", "dtype")
NAMED: Final = "features, a head, a spec.json, or a cached spec's first digits"


@click.group()
def cache() -> None:
    """Show what the row cache holds, verify it, prune it, or explain why rows are missing."""


@cache.command("list", cls=Stage)
@options(ExtractSettings, only=("cache",))
def list_(cache: Path) -> None:
    """List the cached specs: rows, size, settings, damaged files, writers at work."""
    from pipeline.features.cache import inventory, kept_weights

    held = inventory.contents(cache)
    header = ("spec", "rows", "shards", "disk", *(name.removesuffix(".name") for name in SETTINGS))
    numbers = [(one.short, f"{one.rows:,}", f"{one.shards:,}", _size(one.bytes)) for one in held]
    rows = [first + _settings(one.spec) for first, one in zip(numbers, held, strict=True)]
    show_table(header, rows, right={1, 2, 3})
    for one in held:
        if one.damaged:
            say(f"  {one.short} damaged: {', '.join(path.name for path in one.damaged)}")
        for writer in one.writers:
            say(f"  {one.short} at work: {writer}")
    for path in kept_weights.kept(cache):
        say(f"  weights {path.name[: inventory.SHORT]}, from a file, {_size(path.stat().st_size)}")
    say(f"{counted(sum(one.rows for one in held), 'row')}, {_size(sum(one.bytes for one in held))} in {cache}")


@cache.command(cls=Stage)
@options(ExtractSettings, only=("cache",))
def verify(cache: Path) -> None:
    """Read every shard, kept graph and kept file of weights in full and set aside what is damaged, or of another spec.

    Rows and graphs are made again; weights are asked for when they are needed.
    """
    from pipeline.features.cache import inventory

    with progress("files") as advance:
        damaged = inventory.verify(cache, advance)
    if damaged:
        raise click.ClickException(f"damaged, and set aside as .damaged: {', '.join(map(str, damaged))}")
    if not cache.exists():
        say(f"{cache}: nothing of that name, so nothing to verify")
        return
    say(f"{cache}: every shard, every kept graph and all kept weights are sound")


@cache.command(cls=Stage)
@click.argument("specs", nargs=-1, metavar="[SPEC]...")
@click.option("--keep", multiple=True, metavar="NAME", help=f"Remove all specs but that of NAME: {NAMED}. Repeatable.")
@click.option("--all", "everything", is_flag=True, help="Remove the rows of every spec, and kept weights.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@options(ExtractSettings, only=("cache",))
def prune(specs: tuple[str, ...], keep: tuple[str, ...], everything: bool, dry_run: bool, cache: Path) -> None:
    """Remove damaged files and what killed processes left; and the rows of each SPEC, if any are named.

    Weights from a file go with the last spec that names them. A spec to which a process is adding rows stays.
    """
    from pipeline.features.cache import inventory

    if sum(map(bool, (specs, keep, everything))) > 1:
        raise click.UsageError("expected one of SPEC, --keep and --all, received several")
    held = inventory.contents(cache)
    kept = {_identity(name, held) for name in keep}
    unneeded = {one.identity for one in held if everything or (keep and one.identity not in kept)}
    unneeded |= {inventory.find(held, digits).identity for digits in specs}
    for one in held:
        if one.identity in unneeded and one.writers:
            warn(f"{one.short} stays: {one.writers[0]} is adding rows")
    wasted = inventory.waste(cache, unneeded)
    for item in wasted:
        if not dry_run:
            inventory.remove(item)
        say(f"{item.path.relative_to(cache)}: {item.what}, {_size(item.bytes)}")
    say(f"{_size(sum(item.bytes for item in wasted))} {'can be' if dry_run else 'were'} freed")


@cache.command(cls=Stage)
@click.argument("manifest", type=click.Path(path_type=Path), required=False)
@click.option("--of", metavar="NAME", help=f"Instead of the settings below, those of NAME: {NAMED}.")
@options(ViewSettings)
@options(ExtractSettings, only=("cache",))
def explain(manifest: Path | None, of: str | None, cache: Path, **chosen: Any) -> None:
    """Say how many rows of MANIFEST are cached under these settings and, if none are, which setting differs.

    The settings are those of `headstart extract`.
    """
    from pipeline.features import spec
    from pipeline.features.cache import inventory
    from pipeline.features.int8 import known
    from pipeline.features.resolve import plan
    from pipeline.photos.augmentation import view_key
    from pipeline.photos.manifest import read

    settings = settings_of(ViewSettings, chosen)
    if of and (idle := sorted(given() & described(FeatureSettings).keys())):
        raise SettingError(f"`{idle[0]}`: expected without `of`, received `of={of}`")
    held = inventory.contents(cache)
    planned = None if of else plan(settings)
    table = read(manifest) if manifest else None
    if planned and table:
        planned = known(planned, table, cache)
    asked = planned.spec if planned else _spec(str(of), held)
    identity = spec.identity(asked)
    stored = sum(one.rows for one in held if one.identity == identity)
    found = wanted = stored
    if table is not None:
        keys = [view_key(settings.policy, view) for view in range(settings.views)]
        varied = table.digests if settings.tta else table.learned()[0].digests
        both = [inventory.count(cache, asked, table.digests, keys[:1]), inventory.count(cache, asked, varied, keys[1:])]
        found, wanted = (sum(numbers) for numbers in zip(*both, strict=True))
    total = f" of {wanted:,}" if manifest else ""
    say(f"{found:,}{total} rows cached under {identity[: inventory.SHORT]}")
    if not stored:
        nothing = f"{f'no row of {manifest}' if manifest else 'nothing'} is cached in {cache}"
        say(inventory.explain(cache, asked, table.digests if table else None) or nothing)
    elif found < wanted:
        say("the settings are known: what is missing are new or edited images, or views under another policy")


def _spec(name: str, held: "Sequence[Cached]") -> dict[str, Any]:
    """Return the spec of a features file, a head's folder, a JSON file, or the cached one that begins with `name`."""
    from pipeline.errors import ArtefactError
    from pipeline.features.cache import inventory
    from pipeline.features.features_file import Features
    from pipeline.features.spec import ANY
    from pipeline.heads import store

    path = Path(name)
    if path.is_dir():
        return dict(store.load(path)[1]["spec"])
    if path.suffix == ".json":
        return ANY.read(path)
    if path.exists():
        with Features(path) as features:
            return features.spec
    one = inventory.find(held, name)
    if one.spec is None:
        raise ArtefactError(f"{one.folder}: expected a description of the spec, found none")
    return one.spec


def _identity(name: str, held: "Sequence[Cached]") -> str:
    from pipeline.features import spec
    from pipeline.features.cache import inventory

    return spec.identity(_spec(name, held)) if Path(name).exists() else inventory.find(held, name).identity


def _settings(described: Mapping[str, Any] | None) -> tuple[str, ...]:
    fields = dict(described or {})
    fields["backbone.name"] = fields.get("backbone", {}).get("name", "?")
    return tuple(str(fields.get(name, "?")) for name in SETTINGS)


def _size(count: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


if __name__ == "__main__":
    cache()
