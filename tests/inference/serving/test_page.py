"""The page in a browser: a photo that is dropped, chosen or pasted gets its label; the keyboard reaches all."""

import base64
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import CHROMIUM, NO_CHROMIUM
from tests.inference.serving.test_routes import png
from tests.inference.serving.test_server import Running

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    running = Running(20.0, 0.0)
    yield running
    running.stop(signal.SIGTERM)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def page(server: Running, browser: Any) -> Iterator[Any]:
    """The page, opened; at the end nothing was complained of, and nothing asked of anybody else."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    context.set_default_timeout(10_000)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    address = f"http://127.0.0.1:{server.port}/"
    opened.on("request", lambda request: complaints.append(request.url) if other(request.url, address) else None)
    opened.goto(address)
    opened.wait_for_selector("#knows:not(:empty)")
    yield opened
    context.close()
    assert complaints == []


def other(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))


DROP = """([text, name]) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, { type: "image/png" }));
    for (const kind of ["dragenter", "dragover", "drop"]) {
        const event = new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
        document.getElementById("give").dispatchEvent(event);
    }
}"""


def drop(page: Any, data: bytes) -> None:
    page.evaluate(DROP, [base64.b64encode(data).decode(), "a.png"])


def label(page: Any) -> str:
    page.wait_for_selector("#found[aria-busy=false] #classes button")
    return str(page.inner_text("#label"))


def test_the_page_says_what_it_tells_apart(page: Any) -> None:
    assert page.title() == "light · headstart"
    assert page.inner_text("#knows") == "Tells apart: bright, dark"


def test_a_photo_that_is_dropped_gets_its_label_its_heat_map_and_its_neighbours(page: Any) -> None:
    drop(page, png(204))
    assert label(page).split("\n") == ["bright", "probability 0.800"]
    rows = page.locator("#classes button")
    assert [row.split() for row in rows.all_inner_texts()] == [["bright", "0.800"], ["dark", "0.200"]]
    assert page.locator("#evidence").is_visible()
    assert page.get_attribute("#evidence", "src").startswith("data:image/jpeg;base64,")
    assert page.locator("#nearest img").count() == 6
    page.wait_for_selector("#nearest img")
    told = page.inner_text("#familiarity")
    assert (
        told
        == "Like what was learned from: 80 of 100 training photos lie as far from the others as this one, or farther."
    )


def test_a_photo_of_another_kind_comes_with_a_warning(page: Any) -> None:
    drop(page, png(0))
    assert label(page).startswith("dark")
    assert page.inner_text("#familiarity") == (
        "Unlike what was learned from: 0 of 100 training photos lie as far from the others as this one. "
        "Do not rely on the label."
    )
    assert page.get_attribute("#familiarity", "class") == "unlike"


def test_what_a_hundred_photos_cannot_tell_is_said_so(page: Any) -> None:
    drop(page, png(10))
    label(page)
    assert page.inner_text("#familiarity") == (
        "Perhaps unlike what was learned from: 4 of 100 training photos lie as far from the others as this one, and "
        "100 photos cannot tell more surely. Compare it with the most similar of them."
    )


def test_the_evidence_for_another_class_is_a_click_away(page: Any) -> None:
    drop(page, png(204))
    label(page)
    page.click("#classes button >> text=dark")
    page.wait_for_selector("#classes button[aria-pressed=true] >> text=dark")
    assert page.inner_text("#about") == "dark"
    assert label(page).startswith("bright")
    page.click("label[for=as-photo]")
    assert page.locator("#photo").is_visible()
    assert not page.locator("#evidence").is_visible()


def test_the_keyboard_reaches_all(page: Any, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(png(204))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(photo)
    label(page)
    visited = []
    for _ in range(7):
        page.keyboard.press("Tab")
        visited.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent.replace(/[ .0-9]/g, '')")
        )
    assert visited[:4] == ["camera", "as-evidence", "bright", "dark"]
    page.focus("#as-evidence")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#photo").is_visible()
    page.focus("#classes li:nth-child(2) button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#classes button[aria-pressed=true] >> text=dark")
    assert page.evaluate("document.activeElement.textContent").startswith("dark")


def test_a_photo_from_the_clipboard_gets_its_label(page: Any) -> None:
    page.evaluate(
        """(text) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
        }""",
        base64.b64encode(png(30)).decode(),
    )
    assert label(page).startswith("dark")


def test_a_photo_from_the_camera_is_sent(page: Any) -> None:
    page.click("#camera")
    page.wait_for_selector("#live:not([hidden])")
    page.keyboard.press("Escape")
    assert not page.locator("#live").is_visible()
    page.click("#camera")
    page.wait_for_selector("#live:not([hidden])")
    with page.expect_request("**/predict?**") as sent:
        page.click("#shoot")
    assert sent.value.method == "POST"
    assert label(page).split()[0] in ("bright", "dark")
    assert not page.locator("#live").is_visible()


def test_nothing_is_wider_than_a_phone(page: Any) -> None:
    drop(page, png(204, (100, 90)))
    label(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_cannot_be_used_is_said(page: Any) -> None:
    drop(page, b"x" * 100_001)
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error") == "The photo has 0.1 MB; at most 0.1 MB can be sent."
    drop(page, png(9))
    assert label(page).startswith("dark")
    assert not page.locator("#error").is_visible()
