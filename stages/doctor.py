"""``headstart doctor``: what this machine has, and what is missing."""

from pathlib import Path
from typing import Final

import click

from pipeline.models.settings import Runtime
from stages.console import Stage, say
from stages.options.of_settings import options

MARKS: Final = {"ok": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("wrong", "red")}


@click.command(cls=Stage)
@options(Runtime, only=("cache",))
def doctor(cache: Path) -> None:
    """Look at versions, engines, GPU, weights, cache, disk and locks; status 1 if something would stop a run."""
    from stages import diagnosis

    wrong = 0
    for finding in diagnosis.diagnose(cache):
        mark, colour = MARKS[finding.state]
        wrong += finding.state == "wrong"
        say(f"  {finding.name}: {finding.found}", click.style(f"{mark:5}", fg=colour))
        if finding.advice:
            say(f"       {finding.advice}")
    if wrong:
        raise click.ClickException(f"{wrong} of the above would stop a run")


if __name__ == "__main__":
    doctor()
