"""The report in a real Chromium, opened from disk: themes, a phone, the keyboard, players, and no JavaScript."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from custom.saved_runs import draw_predictions, save_run
from serving.browsers import DESKTOP, PHONE, open_browser, open_page

from kerastag.custom.page import write_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Address of a report with long and right-to-left names, whose recordings exist."""
    root = tmp_path_factory.mktemp("report")
    (root / "some sounds").mkdir()
    audio = []
    for i in range(60):
        audio.append(root / "some sounds" / f"take #{i} שלום {'long ' * 20}.wav")
        soundfile.write(audio[-1], 0.1 * np.sin(np.arange(24_000) / 20), 8000)
    names = [f"Class {k} {'name' * 30 if k == 3 else ''}" for k in range(12)]
    targets = np.eye(12, dtype=bool)[np.arange(60) % 12]
    curve = {
        "folds": 2,
        "seconds": 1.0,
        "points": [
            {"share": s, "clips": [5 * s] * 12, "average_precision": [[0.5 + s / 4 + f / 50] * 12 for f in range(2)]}
            for s in (0.25, 0.5, 1.0)
        ],
    }
    probabilities = draw_predictions(targets, sharpness=0.9)
    peaks = np.full(targets.shape, 1.5)
    folder = save_run(root / "runs/mine", names, targets, probabilities, audio=audio, peaks=peaks, curve=curve)
    return write_report(folder).as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("none") / "none.wav") as browser:
        yield browser


def open_report(browser, address, **options):
    return open_page(browser, address, allowed=(address.rpartition("/runs/")[0] + "/",), **options)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_a_phone_is_wide_enough(browser, address, theme):
    package = pytest.importorskip("axe_playwright_python")
    script = Path(next(iter(package.__path__)), "axe.min.js").read_text(encoding="utf-8")
    options = PHONE if theme == "dark" else DESKTOP
    with open_report(browser, address, color_scheme=theme, reduced_motion="reduce", **options) as page:
        page.evaluate(script)
        violations = page.evaluate("axe.run()")["violations"]
        serious = [each for each in violations if each["impact"] in ("serious", "critical")]
        assert not serious, [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in serious]
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_one_player_at_a_time_starts_at_the_sound(browser, address):
    with open_report(browser, address, **DESKTOP) as page:
        first, second = page.locator("audio[src*='#t=']").element_handles()[:2]
        for player in (first, second):
            player.evaluate("async (player) => { player.muted = true; await player.play(); }")
        assert second.evaluate("(player) => player.currentTime") >= 1
        assert second.evaluate("(player) => player.duration") == pytest.approx(3, abs=0.1)
        assert first.evaluate("(player) => player.paused")


def test_the_keyboard_sorts_classes_and_changes_the_theme(browser, address):
    with open_report(browser, address, color_scheme="light", **DESKTOP) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "theme"
        page.keyboard.press("Enter")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.inner_text("#theme") == "Light theme"
        page.focus("#classes th:nth-child(3) button")
        for order, direction in ((1, "ascending"), (-1, "descending")):
            page.keyboard.press("Enter")
            assert page.get_attribute("#classes th:nth-child(3)", "aria-sort") == direction
            values = [float(text) for text in page.locator("#classes tbody td:nth-child(3)").all_inner_texts()]
            assert values == sorted(values)[::order]
            assert len(values) == 12


def test_everything_is_there_without_javascript(browser, address):
    with open_report(browser, address, java_script_enabled=False, **PHONE) as page:
        assert "would probably help most" in page.inner_text("#more")
        assert page.locator("audio").count() > 10
        assert page.locator(".matrix tbody tr").count() == 12
        assert not page.is_visible("#theme")
