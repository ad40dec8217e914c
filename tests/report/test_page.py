"""The report in a browser: without network or complaints, by pointer and by keyboard, on a phone and on paper."""

import re

import pytest

from tests import CHROMIUM, NO_CHROMIUM
from tests.report.test_report import HOSTILE, STRANGE, one_world, written

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("shown") / "report.html"
    written(one_world(tmp_path_factory.getbasetemp()).inputs(), path)
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, address):
    """Open the page offline; at the end nothing was asked of a network, complained about, or run that was a label."""
    contexts, complaints, asked = [], [], []

    def opened(**options):
        context = browser.new_context(offline=True, **{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        assert all(page.evaluate("window.hacked === undefined") for page in context.pages)
        context.close()
    assert complaints == []
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}


@pytest.fixture
def page(open_page):
    return open_page()


def focused(page):
    return page.evaluate("document.activeElement.outerHTML.slice(0, 200)")


def test_it_opens_without_network_or_complaints(page):
    assert page.title() == "pets: a Headstart report"
    assert page.locator("h1").is_visible()
    assert page.get_by_text(HOSTILE).first.is_visible()


def test_a_cell_of_the_confusion_matrix_opens_its_pictures(page):
    cell = page.locator(".panel:not([hidden]) .matrix .miss button").first
    count = int(cell.inner_text())
    cell.click()
    dialog = page.locator("dialog#cell")
    assert dialog.is_visible()
    shown = dialog.locator(".sprite")
    assert shown.count() == count
    width, picture = shown.first.evaluate("one => [one.offsetWidth, getComputedStyle(one).backgroundImage]")
    assert width == 96
    assert picture.startswith('url("data:image/webp;base64,')
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_a_picture_opens_what_was_said_of_it_and_its_neighbours(page):
    page.locator(".panel:not([hidden]) .mistakes button").first.click()
    dialog = page.locator("dialog#picture")
    assert dialog.locator(".neighbours li").count() == 3
    assert dialog.locator("dt").all_inner_texts()[:2] == ["label", "split"]
    before = dialog.locator("p.path").inner_text()
    dialog.locator(".neighbours button").first.click()
    assert dialog.locator("p.path").inner_text() != before


def test_the_map_shows_a_thumbnail_where_one_points_and_chooses_it_when_pressed(page):
    stage, card = page.locator("#plane"), page.locator("#card")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    x, y = page.evaluate("[plane.x[5], plane.y[5]]")
    assert not card.is_visible()
    at = (box["x"] + x * box["width"] / 1000, box["y"] + y * box["width"] / 1000)
    page.mouse.move(*at)
    assert card.is_visible()
    assert card.locator(".sprite").evaluate("one => one.offsetWidth") > 50
    path = card.locator(".path").inner_text()
    page.mouse.click(*at)
    assert page.locator("#chosen p.path").inner_text() == path
    page.mouse.move(0, 0)
    assert not card.is_visible()


def test_arrows_walk_the_map_and_say_where_they_are(page):
    page.locator("#plane").focus()
    page.keyboard.press("ArrowRight")
    said = [page.locator("#said").inner_text()]
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        said.append(page.locator("#said").inner_text())
    assert len(set(said)) > 3
    assert page.locator("#card").is_visible()
    page.keyboard.press("Enter")
    assert page.locator("#chosen p.path").inner_text() == said[-1].rpartition(", ")[2]
    page.keyboard.press("Escape")
    assert not page.locator("#card").is_visible()


def test_the_keyboard_reaches_every_dot_of_the_map(page):
    page.locator("#plane").focus()
    said = set()
    for _ in range(42):
        page.keyboard.press("PageDown")
        said.add(page.locator("#said").inner_text())
    assert len(said) == 42


def test_the_keyboard_reaches_all_that_can_be_pressed(page):
    """Tab goes through everything; what a tab hides has its turn when its tab is chosen by an arrow."""
    wanted = set(range(page.evaluate("all('main button, main select, main a, main summary, #plane, #theme').length")))
    number = (
        "() => all('main button, main select, main a, main summary, #plane, #theme').indexOf(document.activeElement)"
    )
    reached = set()
    for _ in range(2):
        page.evaluate("document.activeElement.blur()")
        for _ in range(400):
            page.keyboard.press("Tab")
            reached.add(page.evaluate(number))
            if page.evaluate("document.activeElement === document.body"):
                break
        page.locator("[role=tab][aria-selected=true]").focus()
        page.keyboard.press("ArrowRight")
        reached.add(page.evaluate(number))
    assert wanted <= reached


def test_what_has_the_focus_shows_it(page):
    for _ in range(12):
        page.keyboard.press("Tab")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid", focused(page)


def test_escape_closes_a_dialog_and_the_focus_returns_to_what_opened_it(page):
    cell = page.locator(".panel:not([hidden]) .matrix button").first
    cell.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog#cell").is_visible()
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("dialog#picture").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog#picture").is_visible()
    assert page.locator("dialog#cell").is_visible()
    page.keyboard.press("Escape")
    assert cell.evaluate("one => one === document.activeElement")


def test_arrows_walk_the_matrix(page):
    buttons = page.locator(".panel:not([hidden]) .matrix .hit button")
    buttons.first.focus()
    before = focused(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert focused(page) != before
    assert page.evaluate("document.activeElement.closest('.matrix') !== null")


def test_a_tab_shows_its_model_alone(page):
    names = page.locator("[role=tab]").all_inner_texts()
    assert sorted(names) == ["logistic", "ridge"]
    page.locator("[role=tab]").nth(1).click()
    assert page.locator(".panel").evaluate_all("all => all.map(one => one.hidden)") == [True, False]


def test_a_class_can_be_shown_alone(page):
    page.locator("#legend button").first.click()
    faded = page.locator(".dots").evaluate_all("all => all.map(one => one.classList.contains('faded'))")
    assert faded == [False, True, True]
    page.locator("#legend button").first.click()
    assert page.locator(".dots.faded").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_system_and_the_button_turns_it(open_page, scheme):
    page = open_page(color_scheme=scheme)

    def bright():
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(re.search(r"\d+", colour)[0]) > 128

    assert bright() == (scheme == "light")
    page.locator("#theme").click()
    assert bright() == (scheme == "dark")


def test_a_phone_shows_the_whole_navigation_and_the_whole_chart_of_layers(open_page):
    page = open_page(viewport={"width": 360, "height": 740})
    shown = page.locator(".top a, #layers .chart").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().toJSON())"
    )
    assert len(shown) == 9
    assert all(one["left"] >= 0 and one["right"] <= 360 for one in shown)
    assert page.locator(".top nav").evaluate("one => one.scrollWidth - one.clientWidth") == 0
    assert page.locator(".top").bounding_box()["height"] < 80


@pytest.mark.parametrize("width", [360, 768])
def test_a_narrow_screen_is_scrolled_in_one_direction_only(open_page, width):
    page = open_page(viewport={"width": width, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator(".panel:not([hidden]) .matrix button").first.click()
    assert page.locator("dialog#cell").bounding_box()["width"] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_told_from_the_paper(open_page, scheme):
    """The contrast of small text is at least 4.5 : 1, as WCAG 2.2 asks for (1.4.3)."""
    page = open_page(color_scheme=scheme)
    channels = """selector => {
        const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const found = document.querySelector(selector);
        return [getComputedStyle(found).color, getComputedStyle(document.body).backgroundColor].map(colour => {
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
        });
    }"""
    for selector in ("main p", ".soft", "a", ".bad", ".path"):
        first, second = (luminance(rgb) for rgb in page.evaluate(channels, selector))
        assert (max(first, second) + 0.05) / (min(first, second) + 0.05) >= 4.5, selector


def luminance(rgb):
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_on_paper_what_needs_a_screen_is_gone_and_the_rest_opened(page):
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    for gone in (".top", "#legend", "[role=tablist]"):
        assert not page.locator(gone).is_visible()
    assert page.locator("#chosen .sprite").first.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert page.pdf().startswith(b"%PDF")


def test_without_script_the_numbers_and_all_models_are_there(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator(".matrix").count() == 2
    assert all(page.locator(".matrix").nth(place).is_visible() for place in range(2))
    assert page.locator("noscript").inner_text().startswith("Without JavaScript")


def test_a_hostile_path_is_shown_as_it_is_named(page):
    number = page.evaluate("path => images.path.indexOf(path)", STRANGE)
    page.evaluate("number => openPicture(number)", number)
    assert page.locator("dialog#picture p.path").inner_text() == STRANGE
