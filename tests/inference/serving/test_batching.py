"""A batcher answers everybody once, in batches no larger than asked, and survives what it calls."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from pipeline.inference.serving.batching import Batcher


class Doubling:
    """Doubles numbers; while it is held, nothing is answered."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, asks: Sequence[int]) -> list[int]:
        self.batches.append(list(asks))
        assert self.free.wait(20)
        if -1 in asks:
            raise ValueError("no negative numbers")
        return [2 * ask for ask in asks]


def batcher(answer: Doubling, *, most: int = 4, wait: float = 0.0) -> Batcher[int, int]:
    return Batcher(answer, most=most, wait=wait, taken=lambda size: None)


@pytest.mark.parametrize("most", [1, 4, 100])
@pytest.mark.parametrize("wait", [0.0, 0.05])
def test_everybody_gets_their_own_answer(most: int, wait: float) -> None:
    answer = Doubling()
    asked = batcher(answer, most=most, wait=wait)

    async def main() -> list[int]:
        return await asyncio.gather(*(asked.ask(number) for number in range(30)))

    assert asyncio.run(main()) == [2 * number for number in range(30)]
    assert max(map(len, answer.batches)) <= most
    assert [number for batch in answer.batches for number in batch] == list(range(30))


def test_a_batch_that_may_wait_is_filled() -> None:
    answer = Doubling()
    asked = batcher(answer, most=3, wait=5.0)

    async def one_after_another() -> list[int]:
        async def later(number: int) -> int:
            await asyncio.sleep(0.05 * number)
            return await asked.ask(number)

        return await asyncio.gather(*map(later, range(3)))

    assert asyncio.run(one_after_another()) == [0, 2, 4]
    assert answer.batches == [[0, 1, 2]]


def test_a_failure_is_told_to_those_of_its_batch_and_to_no_others() -> None:
    answer = Doubling()
    asked = batcher(answer, most=1)

    async def main() -> list[int | BaseException]:
        return await asyncio.gather(*(asked.ask(number) for number in (1, -1, 2)), return_exceptions=True)

    first, failed, last = asyncio.run(main())
    assert (first, last) == (2, 4)
    assert isinstance(failed, ValueError)


def test_who_goes_away_while_queued_is_not_computed() -> None:
    answer = Doubling()
    asked = batcher(answer, most=1)

    async def main() -> int:
        answer.free.clear()
        running = asyncio.create_task(asked.ask(1))
        while not answer.batches:
            await asyncio.sleep(0.01)
        gone = asyncio.create_task(asked.ask(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        answer.free.set()
        await running
        return await asked.ask(3)

    assert asyncio.run(main()) == 6
    assert answer.batches == [[1], [3]]


def test_closing_answers_what_is_queued_and_takes_no_more() -> None:
    answer = Doubling()
    asked = batcher(answer, most=2)

    async def main() -> list[int]:
        answer.free.clear()
        waiting = [asyncio.create_task(asked.ask(number)) for number in range(5)]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(asyncio.to_thread(asked.close))
        await asyncio.sleep(0.05)
        answer.free.set()
        await closing
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [0, 2, 4, 6, 8]
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(asked.ask(1))
