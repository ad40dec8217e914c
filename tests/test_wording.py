import math

import pytest

from pipeline.wording import Pace, aligned, counted, duration, interval, number, printable, printable_lines


@pytest.mark.parametrize(("count", "text"), [(0, "0 copies"), (1, "1 copy"), (2, "2 copies"), (1000, "1,000 copies")])
def test_a_noun_follows_its_count(count: int, text: str) -> None:
    assert counted(count, "copy", "copies") == text


def test_a_plural_takes_an_s_unless_it_is_named() -> None:
    assert (counted(1, "image"), counted(2, "image")) == ("1 image", "2 images")


def test_an_interval_is_written_in_one_way() -> None:
    assert interval(0.9921, 0.9768, 0.9973) == "0.992 [0.977, 0.997]"
    assert interval(-1.26, -2.0, 0.51, 1, sign=True) == "-1.3 [-2.0, +0.5]"


@pytest.mark.parametrize("value", [None, math.nan])
def test_an_interval_of_nothing_is_not_defined(value: float | None) -> None:
    assert interval(value, 0.0, 1.0) == "not defined"


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("value", [-0.04, -0.0, 0.0, 0.04])
def test_zero_has_no_sign(value: float, sign: bool) -> None:
    assert number(value, 1, sign=sign) == "0.0"


def test_what_the_first_step_took_says_nothing_of_the_rest() -> None:
    pace = Pace("images")
    assert pace.told(0, 100, 0.0) == "0 of 100 images"
    assert pace.told(2, 100, 900.0) == "2 of 100 images"
    assert pace.told(4, 100, 901.0) == "4 of 100 images"
    assert pace.told(22, 100, 905.0) == "22 of 100 images, 4.0 a second, 20 s left"
    assert pace.told(100, 100, 920.0) == "100 of 100 images, 4.9 a second"


def test_another_count_of_the_same_work_is_measured_by_itself() -> None:
    pace = Pace("images")
    for done in (1, 10):
        pace.told(done, 10, 6.0 * done)
    assert pace.told(1, 10, 61.0) == "1 of 10 images"
    assert pace.told(6, 10, 71.0) == "6 of 10 images, 0.5 a second, 8 s left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (9000, "2.5 h")]
)
def test_a_time_has_the_unit_in_which_it_is_two_or_more(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x9b2J", r"\x9b2J"),
        ("a\rb\nc\td", r"a\rb\nc\td"),
        ("jpg.\u202egnp", r"jpg.\u202egnp"),
        ("\udcff", r"\udcff"),
        ("\u2028", r"\u2028"),
        ("Katze 猫 قطة 👩\u200d🚀", "Katze 猫 قطة 👩\u200d🚀"),
    ],
)
def test_what_a_terminal_would_obey_stands_as_an_escape_and_letters_as_they_are(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert aligned(["name"], [[text]], ()) == f"name\n{shown}"


def test_lines_of_a_text_stay_lines() -> None:
    assert printable_lines("a\n\tb\x1b") == "a\n\tb\\x1b"
