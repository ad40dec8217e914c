"""Tasks in this process, one after the other."""

from collections.abc import Callable, Iterator
from typing import Any, Self


class Local:
    """The simplest executor: it calls the function."""

    in_process = True
    workers = 1

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterator[Any],
        *,
        stored: Callable[[Any], int],
        advance: Callable[[int], None],
    ) -> Iterator[tuple[Any, Any]]:
        """Yield each task with what the function returned."""
        for task in tasks:
            yield task, function(task, advance)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
