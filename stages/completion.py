"""``headstart completion``: shell completion, the script with which the Tab key completes commands and options."""

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from stages.console import Stage

SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(cls=Stage)
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete `headstart` on the Tab key.

    In bash: eval "$(headstart completion bash)", in ~/.bashrc to keep it.
    """
    from stages.__main__ import main

    click.echo(SHELLS[shell](main, {}, "headstart", "_HEADSTART_COMPLETE").source())


if __name__ == "__main__":
    completion()
