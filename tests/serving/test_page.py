"""The page of `kerastag serve` in a real Chromium: what a visitor does with it, with a keyboard too, and what fails."""

import json
import re
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from serving.browsers import DESKTOP, PHONE, open_browser, open_page
from serving.servers import SAMPLE_RATE, encode, run_server
from sounds import create_cries, create_rain

from kerastag.tagger import Tagger
from kerastag.tagger.formats import FORMATS
from kerastag.tagger.tagged_recording import RecordingTagger

MAX_MEGABYTES = 4


def create_sounds(seconds=10.0):
    """Create cries of a baby from 0.3 to 3.6 s, rain from 4 to 8 s, and silence."""
    waveform = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    for start, sound in ((0.3, create_cries(3, SAMPLE_RATE)), (4, create_rain(4, SAMPLE_RATE))):
        first = round(start * SAMPLE_RATE)
        waveform[first : first + len(sound)] = sound
    return waveform


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recordings") / "20240518_063000.wav"
    path.write_bytes(encode(create_sounds()))
    return path


@pytest.fixture(scope="module")
def browser(recording):
    with open_browser(recording) as browser:
        yield browser


@pytest.fixture(scope="module")
def server(browser):
    with run_server("--model", "esc10", "--max-body-mb", str(MAX_MEGABYTES)) as running:
        yield running


@pytest.fixture(scope="module")
def tagger():
    return Tagger.load("esc10")


def tag_file(page, path):
    page.set_input_files("#file", path)
    page.wait_for_selector("#result:not([hidden]), #alert:not([hidden])")
    assert page.is_visible("#result"), page.inner_text("#alert-text")


def drop_files(page, *paths):
    """Drop files on the page; a browser makes them from text of Latin-1."""
    files = [[path.name, path.read_bytes().decode("latin-1")] for path in paths]
    script = """(files) => {
        const data = new DataTransfer();
        for (const [name, text] of files) {
            data.items.add(new File([Uint8Array.from(text, (letter) => letter.charCodeAt(0))], name));
        }
        for (const type of ["dragenter", "drop"]) {
            document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
        }
    }"""
    page.evaluate(script, files)


def read_rows(page, selector):
    return [re.split(r"\s*\n\s*", text.strip()) for text in page.locator(selector).all_inner_texts()]


def set_threshold(page, value):
    page.fill("#threshold", str(value))


def wait_for(page, script, seconds=20.0):
    """Wait until a script returns true; `page.wait_for_function` uses `eval`, which the page forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(script):
        assert time.monotonic() < deadline, f"must become true in time: {script}"
        page.wait_for_timeout(30)


def read_clock(page):
    minutes, seconds = page.inner_text("#clock").split(":")
    return 60 * int(minutes) + float(seconds)


def download(page, selector, name):
    with page.expect_download() as result:
        page.click(selector)
    assert result.value.suggested_filename == name
    return result.value.path().read_text(encoding="utf-8")


def describe(tagger, path, classes, format, **options):
    """Return what `kerastag tag` writes about a recording."""
    recording_tagger = RecordingTagger(tagger, top=10, classes=classes, **options)
    recording = recording_tagger.process(path, path.name, events=True, timeline=format == "json")
    output = FORMATS[format]
    text = "".join(output.format(recording, tagger.card.sample_rate / 2, True))
    return output.opening + output.header(True, False) + text + output.closing


def test_a_visitor_sees_tags_lanes_and_events_of_a_recording(server, browser, recording):
    with open_page(browser, server.url) as page:
        assert page.inner_text("h1") == "See which sounds a recording contains, and when."
        assert not page.is_visible("#result")
        tag_file(page, recording)
        assert page.title() == f"{recording.name} – kerastag"
        assert page.inner_text("#facts") == "0:10.0 · esc10 · 2024-05-18 06:30:00"
        assert [row[0] for row in read_rows(page, "#tags li")] == ["Baby cry", "Rain"]
        assert [row[0] for row in read_rows(page, "#lanes li")] == ["Baby cry", "Rain"]
        limits = {}
        for start, name, length, _ in read_rows(page, "#events li"):
            onset, offset = float(start[2:]), float(start[2:]) + float(length[:-2])
            if offset < 9:  # The end of the recording can be an event of its own.
                first, last = limits.get(name, (onset, offset))
                limits[name] = min(first, onset), max(last, offset)
        assert limits["Rain"] == pytest.approx((4, 8), abs=0.7)
        assert limits["Baby cry"] == pytest.approx((0.3, 3.6), abs=1.1)
        assert "is tagged: 2 tags" in page.inner_text("#announcement")
        # The bright part of the spectrogram is where the rain is.
        script = """() => {
            const canvas = document.getElementById("spectrogram");
            const { data } = canvas.getContext("2d").getImageData(0, canvas.height / 2, canvas.width, 1);
            return [0.6, 0.9].map((share) => data[4 * Math.floor(share * canvas.width)]);
        }"""
        rain, silence = page.evaluate(script)
        assert rain < silence - 30


def test_the_threshold_selects_what_the_command_selects(server, browser, recording, tagger):
    with open_page(browser, server.url) as page:
        tag_file(page, recording)
        assert page.inner_text("#threshold-value") == "by class"
        for threshold in (0.03, 0.2, 0.6):
            set_threshold(page, threshold)
            assert page.inner_text("#threshold-value") == f"{threshold:.2f}"
            assert not page.is_checked("#own")
            tags = tagger.tag(recording, top=10, threshold=threshold)
            assert read_rows(page, "#tags li") == [[tag.name, f"{tag.probability:.2f}"] for tag in tags]
            assert {tag.name for tag in tags} <= {row[0] for row in read_rows(page, "#lanes li")}
            text = download(page, "#save-csv", f"{recording.name}.csv")
            rows = [line.split(",") for line in text.splitlines()]
            assert rows[0] == ["file", "start_seconds", "end_seconds", "mid", "name", "probability", "time"]
            parameters = {"events": True, "threshold": threshold}
            with recording.open("rb") as file:
                answer = httpx.post(f"{server.url}/v1/tag", params=parameters, files={"file": file}, timeout=60).json()
            keys = ("start_seconds", "end_seconds", "mid", "name", "probability", "time")
            assert [row[1:] for row in rows[1:]] == [[str(event[key]) for key in keys] for event in answer["events"]]
            assert len(rows) > 2


def test_downloads_have_the_formats_of_the_command(server, browser, recording, tagger):
    with open_page(browser, server.url) as page:
        drop_files(page, recording, recording)
        assert page.inner_text("#alert-text").startswith("Drop one recording at a time")
        drop_files(page, recording)
        page.wait_for_selector("#result:not([hidden])")
        assert not page.is_visible("#alert")
        classes = [row[0] for row in read_rows(page, "#lanes li")]
        text = download(page, "#save-audacity", f"{recording.name}.labels.txt")
        assert text == describe(tagger, recording, classes, "audacity")
        expected = json.loads(describe(tagger, recording, classes, "json", use_card_thresholds=True))
        (downloaded,) = json.loads(download(page, "#save-json", f"{recording.name}.json"))
        for event in downloaded["events"]:
            assert event.pop("time").startswith("2024-05-18T06:30:0")
        assert downloaded.pop("time") == "2024-05-18T06:30:00.000"
        assert [downloaded] == expected
        assert list(downloaded) == list(expected[0])


def test_a_recording_is_played_and_positions_are_chosen_by_mouse_and_keyboard(server, browser, recording):
    with open_page(browser, server.url) as page:
        tag_file(page, recording)
        box = page.locator("#spectrogram").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
        assert read_clock(page) == pytest.approx(5, abs=0.1)
        cursor = page.locator("#cursor").bounding_box()
        assert cursor["x"] == pytest.approx(box["x"] + box["width"] / 2, abs=3)
        page.click("#play")
        page.wait_for_selector("#play[aria-label=Pause]")
        wait_for(page, "document.getElementById('clock').textContent > '0:05.4'")
        assert page.locator("#cursor").bounding_box()["x"] > cursor["x"] + 20
        page.keyboard.press("Escape")
        page.click("#play")
        page.wait_for_selector("#play[aria-label=Play]")
        page.focus("#position")
        for key, seconds in (("Home", 0), ("ArrowRight", 1), ("Shift+ArrowRight", 10), ("ArrowLeft", 9)):
            page.keyboard.press(key)
            assert read_clock(page) == pytest.approx(seconds, abs=0.05)
        assert page.get_attribute("#position", "aria-valuetext") == "9 seconds"
        page.keyboard.press("Space")
        page.wait_for_selector("#play[aria-label=Pause]")
        page.wait_for_selector("#play[aria-label=Play]")  # at the end
        assert read_clock(page) == pytest.approx(10, abs=0.1)
        page.click("#events li:last-child button")
        start = float(read_rows(page, "#events li:last-child")[0][0][2:])
        assert read_clock(page) == pytest.approx(start, abs=0.1)
        page.click("#lanes li:first-child button")
        assert read_clock(page) == pytest.approx(0.3, abs=0.7)


def test_the_view_is_zoomed_and_moved(server, browser, recording):
    def read_view():
        page.evaluate("new Promise(requestAnimationFrame)")
        text = page.get_attribute("#scroll-position", "aria-valuetext")
        return [float(part.partition(":")[2]) for part in text.split(" to ")]

    with open_page(browser, server.url) as page:
        tag_file(page, recording)
        assert not page.is_visible("#scroll")
        box = page.locator("#waveform").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
        page.mouse.wheel(0, -300)
        page.wait_for_selector("#scroll:visible")
        start, end = read_view()
        assert end - start == pytest.approx(10 * np.exp(-0.6), abs=0.2)
        assert start + (end - start) / 4 == pytest.approx(2.5, abs=0.1)  # what is below the pointer stays there
        page.mouse.down()
        page.mouse.move(box["x"], box["y"] + 20, steps=3)
        page.mouse.up()
        assert read_view()[0] == pytest.approx(start + (end - start) / 4, abs=0.1)
        assert read_clock(page) == 0  # A drag does not seek.
        page.keyboard.press("0")
        page.wait_for_selector("#scroll", state="hidden")
        page.click("#zoom-in")
        assert read_view()[1] == pytest.approx(10 / 1.6 + 10 * (1 - 1 / 1.6) / 2, abs=0.1)
        page.click("#zoom-fit")
        assert read_view() == [0, 10]
        page.keyboard.press("+")
        page.fill("#scroll-position", "3")
        assert read_view()[0] == pytest.approx(3, abs=0.1)
        page.mouse.move(box["x"] + 20, page.locator("#lanes canvas").first.bounding_box()["y"] + 9)
        page.mouse.wheel(0, 40)
        assert read_view()[0] == pytest.approx(3, abs=0.1)  # Above a lane, the wheel scrolls the page.


def test_two_fingers_zoom_and_one_moves_the_view(server, browser, recording):
    def touch(*points):
        steps = [[{"x": x, "y": y, "id": k} for k, x in enumerate(xs)] for xs in points]
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": steps[0]})
        for step in steps[1:]:
            session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": step})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.evaluate("new Promise(requestAnimationFrame)")
        return float(page.input_value("#scroll-position"))

    with open_page(browser, server.url, **PHONE) as page:
        tag_file(page, recording)
        session = page.context.new_cdp_session(page)
        y = page.locator("#spectrogram").bounding_box()["y"] + 30
        touch((150, 210), (130, 230), (90, 270))
        page.wait_for_selector("#scroll:visible")
        start = float(page.input_value("#scroll-position"))
        assert float(page.get_attribute("#scroll-position", "max")) == pytest.approx(10 * (1 - 60 / 180), abs=0.5)
        assert touch((250,), (200,), (150,)) > start + 0.5
        assert read_clock(page) == 0
        page.touchscreen.tap(180, y)
        assert read_clock(page) > 1


def test_errors_are_the_line_of_the_server_and_the_page_goes_on(server, browser, recording, tmp_path):
    expected = ("status of 415", "status of 422", "status of 413")
    with open_page(browser, server.url, expected_errors=expected) as page:
        for name, content, message in (
            ("broken.wav", b"RIFF....WAVE" + bytes(1000), "broken.wav: "),
            ("empty.wav", b"", ""),
            ("large.wav", bytes((MAX_MEGABYTES + 1) << 20), f"{MAX_MEGABYTES}"),
        ):
            (tmp_path / name).write_bytes(content)
            with page.expect_response("**/v1/tag*") as response:
                page.set_input_files("#file", tmp_path / name)
            page.wait_for_selector("#alert:not([hidden])")
            line = response.value.json()["error"]["message"]
            assert page.inner_text("#alert-text").rstrip(".") == line.rstrip(".")
            assert message in line
            assert page.is_visible("#welcome")
        page.click("#dismiss")
        assert not page.is_visible("#alert")
        tag_file(page, recording)


def test_silence_has_no_events_and_other_files_are_not_played(server, browser, tmp_path):
    soundfile.write(tmp_path / "silence.aiff", np.zeros(2 * SAMPLE_RATE), SAMPLE_RATE, subtype="PCM_16")
    with open_page(browser, server.url) as page:
        tag_file(page, tmp_path / "silence.aiff")
        set_threshold(page, 1)
        assert page.inner_text("#no-tags") == page.inner_text("#no-lanes") == "Nothing reaches the threshold."
        assert page.inner_text("#no-events") == "No events."
        page.wait_for_selector("#play[disabled]")
        assert page.inner_text("#player-note") == "This browser cannot play the format."
        assert download(page, "#save-csv", "silence.aiff.csv").splitlines()[1:] == ["silence.aiff,,,,,,"]


def test_a_server_that_is_gone_is_named_and_can_be_tried_again(browser, recording):
    with (
        run_server("--model", "esc10", "--model", "second=kerastag/bundled/esc10.tflite") as other,
        open_page(browser, other.url, expected_errors=("ERR_CONNECTION_REFUSED",)) as page,
    ):
        page.wait_for_selector("#model-choice:visible")
        page.select_option("#model", "second")
        tag_file(page, recording)
        assert "second" in page.inner_text("#facts")
        page.click("#again")
        assert other.stop() == 0
        page.set_input_files("#file", recording)
        page.wait_for_selector("#alert:not([hidden])")
        assert "does not answer" in page.inner_text("#alert-text")
        assert page.is_visible("#retry")


def test_live_tags_scroll_and_events_have_their_times(server, browser):
    with open_page(browser, server.url) as page:
        page.click("#live")
        page.wait_for_selector("#events li")
        page.wait_for_selector("#tags li")
        page.wait_for_selector("#lanes li")
        assert re.search(r"\d\d:\d\d:\d\d", page.inner_text("#events li:last-child"))
        assert "begins" in page.inner_text("#announcement")
        first = page.inner_text("#facts")
        wait_for(page, f"document.getElementById('facts').textContent !== {first!r}")
        assert not page.is_visible("#downloads")
        page.click("#stop")
        page.wait_for_selector("[data-mode=stopped]")
        names = {row[1] for row in read_rows(page, "#events li")}
        assert names <= set(Tagger.load("esc10").labels.names)
        with page.expect_download() as wav:
            page.click("#save-wav")
        waveform, sample_rate = soundfile.read(wav.value.path())
        assert len(waveform) / sample_rate == pytest.approx(
            page.evaluate("parseFloat(total.textContent.slice(5))"), abs=0.1
        )
        assert np.abs(waveform).max() > 0.1
        page.click("#tag-live")
        page.wait_for_selector("[data-mode=file]")
        assert re.fullmatch(r"\d{8}_\d{6}\.wav", page.inner_text("#result-title"))


def test_a_recording_of_the_microphone_is_tagged_at_its_end(server, browser):
    with open_page(browser, server.url) as page:
        page.click("#record")
        page.wait_for_selector("[data-mode=record]")
        assert not page.is_visible("#threshold")
        wait_for(page, "document.getElementById('facts').textContent >= '0:02'")
        page.click("#stop")
        page.wait_for_selector("[data-mode=file]")
        set_threshold(page, 0.01)  # What the microphone plays in these seconds is not certain.
        assert read_rows(page, "#tags li")


def test_the_example_has_sounds_and_the_theme_is_that_of_the_system_until_one_is_chosen(server, browser):
    with open_page(browser, server.url, color_scheme="light") as page:
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(background)
        page.emulate_media(color_scheme="dark")
        wait_for(page, f"{background} !== '{light}'")
        dark = page.evaluate(background)
        page.emulate_media(color_scheme="light")
        wait_for(page, f"{background} === '{light}'")
        page.click("#theme")
        assert page.evaluate(background) == dark
        assert page.get_attribute("#theme", "aria-pressed") == "true"
        page.reload()
        assert page.evaluate(background) == dark
        page.click("#example")
        page.wait_for_selector("#tags li")
        assert page.inner_text("#facts").startswith("0:30.0")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_a_phone_is_wide_enough(server, browser, recording, theme):
    package = pytest.importorskip("axe_playwright_python")
    script = Path(next(iter(package.__path__)), "axe.min.js").read_text(encoding="utf-8")

    def check():
        page.evaluate(script)
        violations = page.evaluate("axe.run()")["violations"]
        serious = [each for each in violations if each["impact"] in ("serious", "critical")]
        assert not serious, [(each["id"], [node["html"] for node in each["nodes"]]) for each in serious]
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

    options = PHONE if theme == "dark" else DESKTOP
    with open_page(browser, server.url, color_scheme=theme, reduced_motion="reduce", **options) as page:
        check()
        tag_file(page, recording)
        page.click("#zoom-in")
        set_threshold(page, 0.05)
        check()
        page.click("#again")
        page.click("#live")
        page.wait_for_selector("#events li")
        check()


@pytest.mark.slow
def test_a_token_is_asked_for_and_opens_tags_and_streams(browser, recording, tmp_path):
    path = tmp_path / "token"
    path.write_text("a-long-secret", encoding="utf-8")
    with (
        run_server("--model", "esc10", "--token-file", str(path)) as other,
        open_page(browser, other.url, expected_errors=("status of 401",)) as page,
    ):
        for token in ("wrong-secret", "a-long-secret"):
            page.wait_for_selector("#token-form:visible")
            page.fill("#token", token)
            with page.expect_response("**/v1/models"):
                page.press("#token", "Enter")
        page.wait_for_selector("#alert", state="hidden")
        tag_file(page, recording)
        page.click("#again")
        page.click("#live")
        page.wait_for_selector("#tags li")


@pytest.mark.slow
def test_an_hour_is_tagged_zoomed_and_played(browser, tmp_path):
    sounds, silence = create_sounds(), np.zeros(590 * SAMPLE_RATE, np.float32)
    path = tmp_path / "hour.flac"
    path.write_bytes(encode(np.concatenate([sounds, silence] * 6), format="FLAC"))
    with run_server() as server, open_page(browser, server.url) as page:
        page.set_default_timeout(120_000)
        page.set_input_files("#file", path)
        page.wait_for_selector("#progress:visible")
        wait_for(page, "document.getElementById('progress-text').textContent.startsWith('Tagging for')")
        page.wait_for_selector("#result:not([hidden])")
        assert page.inner_text("#facts").startswith("1:00:00.0")
        assert len(read_rows(page, "#events li")) >= 12
        set_threshold(page, 0.05)
        count = page.locator("#events li").count()
        set_threshold(page, 0.5)
        assert page.locator("#events li").count() < count
        for _ in range(20):
            page.keyboard.press("+")
        page.wait_for_selector("#scroll:visible")
        page.click("#zoom-fit")
        page.click("#events li:last-child button")
        page.click("#play")
        page.wait_for_selector("#play[aria-label=Pause]")
        seconds = page.get_attribute("#position", "aria-valuenow")
        wait_for(page, f"document.getElementById('position').getAttribute('aria-valuenow') > {seconds}")
        assert float(seconds) > 3000
