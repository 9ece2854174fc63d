"""Pages in a real Chromium, which must not complain and must not ask any other server."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
PHONE = {"viewport": {"width": 320, "height": 740}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
"""Options of a page on a phone; at 320 pixels, nothing but tables may scroll sideways (WCAG 1.4.10)."""
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
_ARGUMENTS = ("--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")


@contextlib.contextmanager
def open_browser(microphone: Path) -> Iterator[Any]:
    """Open Chromium, whose microphone repeats a WAV file; skip the test where there is no Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    arguments = [*_ARGUMENTS, f"--use-file-for-fake-audio-capture={microphone}"]
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def open_page(
    browser: Any,
    url: str,
    expected_errors: tuple[str, ...] = (),
    allowed: tuple[str, ...] | None = None,
    **options: Any,
) -> Iterator[Any]:
    """Open a page in a new context, and check in the end what it wrote and what it asked for.

    Args:
        browser: Browser.
        url: Address of the server, or of a file.
        expected_errors: Parts of the only errors that the console may have; each must be there.
        allowed: Beginnings of the addresses that the page may ask for; by default, those of the server.
        options: Options of the context, such as `viewport`.
    """
    context = browser.new_context(permissions=["microphone"], accept_downloads=True, **options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    errors: list[str] = []
    addresses: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    page.on("websocket", lambda socket: addresses.append(socket.url))
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
    assert not [error for error in errors if not any(part in error for part in expected_errors)], errors
    assert all(any(part in error for error in errors) for part in expected_errors), errors
    server = url.partition("://")[2]
    allowed = allowed or (f"http://{server}/", f"ws://{server}/", f"blob:http://{server}/")
    assert not [address for address in addresses if not address.startswith(allowed)], addresses
