"""The page of a review in a real Chromium, with a keyboard, and on a phone."""

import contextlib
import threading
import time
from pathlib import Path

import pytest
from review.small_reviews import describe_truth
from serving.browsers import PHONE, open_browser, open_page

from kerastag.review.app import create_app
from kerastag.serving.access import AccessPolicy
from kerastag.serving.config import ModelSpec, ServeConfig
from kerastag.serving.gateway import Gateway
from kerastag.serving.listening import create_server, format_address, listen
from kerastag.serving.metrics import ServerMetrics

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def serve(session):
    """Serve a review in a thread, and yield its address."""
    config = ServeConfig((ModelSpec("review", "run"),), port=0)
    with listen(config.host, 0) as listener:
        gateway = Gateway(create_app(session), config, AccessPolicy(config), ServerMetrics({}), print)
        server = create_server(gateway, config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield format_address(listener)
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="module")
def browser(trainer):
    with open_browser(trainer.pool.parts[0].path) as browser:
        yield browser


def press_answer(page, session):
    """Answer the present question with a key, and wait for the next one."""
    question = session.describe()["question"]
    value = describe_truth(question)
    keys = {"yes": "y", "no": "n"}
    page.wait_for_selector(f"body[data-question='{question['number']}']")
    key = keys.get(value) or str(question["choices"].index(value.removeprefix("class:")) + 1)
    page.keyboard.press(key)
    deadline = time.monotonic() + 20
    while (following := session.describe()["question"]) and following["number"] == question["number"]:
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)
    return value


def test_a_review_by_keyboard_from_the_first_question_to_a_new_head(open_session, browser):
    session = open_session(round_size=12)
    with serve(session) as url, open_page(browser, url) as page:
        page.wait_for_selector("#stage:not([hidden])")
        assert page.inner_text("h1") == "Is this Bark?"
        assert "The label may be wrong: Bark, perhaps Rain · 5.wav at 0:00.0" in page.inner_text("#reason")
        page.keyboard.press("s")
        page.wait_for_selector("h1:has-text('Is this')")
        page.wait_for_selector("#undo:enabled")
        page.keyboard.press("u")
        page.wait_for_selector("#undo:disabled")
        assert page.inner_text("h1") == "Is this Bark?"
        for _ in range(6):
            press_answer(page, session)
        page.wait_for_selector("#play[aria-label=Pause], #play[aria-label=Play]")
        page.keyboard.press("r")
        page.wait_for_selector("#play[aria-label=Pause]")
        assert "6 in this session" in page.inner_text("#progress-text")
        page.click("#train")
        page.wait_for_selector("#figures:not([hidden])")
        page.wait_for_selector("#write:enabled")
        assert "A new head is ready." in page.inner_text("#head-text")
        rows = page.locator("#figure-rows tr").all_inner_texts()
        assert [row.split("\t")[0] for row in rows] == [
            "Accuracy of held-out clips",
            f"Right on {session.describe()['figures']['answers']['count']} answers, held out",
            "Alarms per hour without an answer",
        ]
        # The spectrogram is drawn.
        script = """() => {
            const canvas = document.getElementById("spectrogram");
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return new Set(data.filter((_, index) => index % 4 === 0)).size;
        }"""
        assert page.evaluate(script) > 20


def test_names_of_classes_and_files_are_text(open_session, browser, monkeypatch):
    session = open_session()
    hostile = "<img src=x onerror=alert(1)>\u202e\U0001f415"
    monkeypatch.setattr(session._selector, "_all_names", (hostile, "Rain", "background"))
    with serve(session) as url, open_page(browser, url) as page:
        page.wait_for_selector("#stage:not([hidden])")
        assert page.inner_text("h1") == f"Is this {hostile}?"
        assert page.locator("#choices img, h1 img").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_accessible_and_fits_on_a_phone(open_session, browser, theme):
    package = pytest.importorskip("axe_playwright_python")
    script = Path(next(iter(package.__path__)), "axe.min.js").read_text(encoding="utf-8")
    options = {"color_scheme": theme, "reduced_motion": "reduce", **PHONE}
    with serve(open_session()) as url, open_page(browser, url, **options) as page:
        page.wait_for_selector("#stage:not([hidden])")
        page.wait_for_selector("#choices button")
        page.evaluate(script)
        violations = page.evaluate("axe.run()")["violations"]
        serious = [each for each in violations if each["impact"] in ("serious", "critical")]
        assert not serious, [(each["id"], [node["html"] for node in each["nodes"]]) for each in serious]
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        box = page.locator("[data-answer=yes]").bounding_box()
        assert box["height"] >= 44
        page.tap("[data-answer=yes]")
        page.wait_for_selector("#undo:enabled")
