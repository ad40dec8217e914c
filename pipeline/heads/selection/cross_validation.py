"""The parts of a search, fitted side by side without more threads than there are processors."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

from pipeline.heads.standardise import Candidates, Codes, Part, Progress, Table, take

Fitted = TypeVar("Fitted")


def each_part(
    fit: Callable[[Part], list[Fitted]],
    parts: Sequence[Part],
    candidates: Candidates,
    *,
    jobs: int,
    progress: Progress | None,
) -> list[list[Fitted]]:
    """Call `fit` on each part and return what it returns, in order.

    Parameters
    ----------
    fit : callable
        From a part to a fitted head for each candidate.
    parts, candidates : sequences
    jobs : int
        Parts at a time, in threads: the work is done by matrix products, which let other threads run. Together they
        use as many threads of the linear algebra as there are processors.
    progress : callable or None
        Called with (fits done, fits) as parts end.
    """
    from joblib import Parallel, delayed

    done: list[list[Fitted]] = []
    workers = min(jobs, len(parts))
    with _shared_processors(workers):
        for fitted in Parallel(n_jobs=workers, prefer="threads", return_as="generator")(
            delayed(fit)(part) for part in parts
        ):
            done.append(fitted)
            if progress is not None:
                progress(len(done) * len(candidates), len(parts) * len(candidates))
    return done


class FittedSeparately:
    """The grid of a head whose candidates share no work: each is fitted on each part on its own."""

    def fit_grid(
        self,
        X: Table,
        y: Codes,
        parts: Sequence[Part],
        candidates: Candidates,
        *,
        jobs: int,
        progress: Progress | None,
    ) -> list[list[Self]]:
        """Fit each candidate on the rows of each part.

        Parameters
        ----------
        X, y
            As for `fit`.
        parts : sequence of Part
        candidates : sequence of dict
            Parameters to replace.
        jobs : int
            Parts that are fitted at a time.
        progress : callable or None
            Called with (fits done, fits).

        Returns
        -------
        list (a part) of list (a candidate) of fitted heads
        """
        head: Any = self  # a dataclass, with `fit`

        def fit_all(part: Part) -> list[Self]:
            rows, codes = take(X, part.rows), y[part.rows]
            return [replace(head, **candidate).fit(rows, codes, None) for candidate in candidates]

        return each_part(fit_all, parts, candidates, jobs=jobs, progress=progress)


@contextlib.contextmanager
def _shared_processors(workers: int) -> Iterator[None]:
    """Give each worker its share of the processors, for as long as the block runs."""
    if workers == 1:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(max(1, (os.cpu_count() or 1) // workers)):
        yield
