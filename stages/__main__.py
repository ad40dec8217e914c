"""The console script ``headstart``: a group that imports a command only when it is called."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import click

from stages import process

COMMANDS = {
    "digits": "Write scikit-learn's handwritten digits as PNG files, one folder a class.",
    "run": "From a folder of photos to a classifier: all steps, each run again only where something changed.",
    "init": "Make a DVC project of your own for a folder of photos.",
    "prepare": "Read a folder of labelled photos: manifest, splits, quarantine and pictures of the data.",
    "backbones": "List the pretrained bases, or the layers of one.",
    "convert": "Write an image network of keras-hub as a graph that can be the base: DINOv2, SigLIP, ViT and others.",
    "probe": "Find where to cut a base: a quick head at every cut and pooling, on a sample; or compare bases.",
    "extract": "Run the frozen base once over every image and keep its features.",
    "audit": "Look for copies, leaks, wrong labels and outliers in the data.",
    "train": "Fit a light head on the features.",
    "growth": "Show how accuracy grows with the training photos, and what twice as many would bring.",
    "finetune": "Join base and head into a model, with the layers above a cut trained on if asked for.",
    "evaluate": "Judge a head or a model on the test split: metrics with intervals, predictions and plots.",
    "compare": "Say which of several heads or models is better, and which differences may be chance.",
    "export": "Write a model as files that run without this project: ONNX, TFLite, SavedModel, Keras, OpenVINO.",
    "report": "Bring all results together in one page to look at, with their pictures.",
    "results": "Show the test results of several heads side by side.",
    "predict": "Label photos with a trained head or a model.",
    "serve": "Try a head or a model on a page, and reach it over HTTP.",
    "recipe": "Run a well-known recipe through DVC, or list them.",
    "cache": "List, verify, prune or explain the rows kept from earlier extractions.",
    "doctor": "Look at this machine: versions, engines, GPU, weights, cache, disk, locks.",
    "completion": "Print what a shell needs to complete commands and options.",
}


class LazyGroup(process.Program, click.Group):
    """A group whose commands live in modules of the same name, so that ``--help`` loads none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names in the order of the pipeline."""
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant; of an unknown one, name those that are spelled alike."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"See `{ctx.command_path} --help`."
            raise click.UsageError(f"No such command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that is named."""
        with process.leaving_when_interrupted():
            return super().invoke(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return the command."""
        if cmd_name not in COMMANDS:
            return None
        _refuse_another_pipeline()
        command: click.Command = getattr(importlib.import_module(f"stages.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands from their one-line descriptions."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _refuse_another_pipeline() -> None:
    """Refuse to work with a package of somebody else that has the name of ours, as `headstart` in Python does."""
    here, spec = Path(__file__).resolve().parents[1], importlib.util.find_spec("pipeline")
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or [])]
    found = next((place for place in places if place), "none")
    if Path(found).resolve() != here / "pipeline" / "__init__.py":
        raise click.ClickException(
            f"headstart: expected its own package pipeline in {here}, received {found}, which hides it: rename that, "
            "or start it elsewhere"
        )


@click.group(cls=LazyGroup)
@click.version_option(package_name="headstart")
def main(**_: Any) -> None:
    """From a folder of labelled photos to a good classifier, in seconds, reproducibly, on this machine."""


if __name__ == "__main__":
    main()
