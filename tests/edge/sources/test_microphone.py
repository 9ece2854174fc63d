"""A microphone: sounddevice's own interface with a device that we make up, and PortAudio over a device of ALSA."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from checks import run_python
from kerastag.edge.sources import open_source
from kerastag.edge.sources.microphone import MicrophoneSession
from kerastag.edge.sources.reopening import Lost


def sounddevice():
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        pytest.skip(f"needs sounddevice and PortAudio: {error}")
    return sounddevice


class Device:
    """What `sounddevice.InputStream` and `query_devices` give of a microphone of 48 kHz and two channels."""

    def __init__(self, library):
        self.library = library
        self.streams = []
        self.plugged = True
        self.listed = [{"name": "USB Mic", "max_input_channels": 2, "default_samplerate": 48_000.0}]

    def query(self, device=None, kind=None):
        if kind is None:
            return self.listed
        if not self.plugged or (device is not None and str(device) not in "USB Mic"):
            raise ValueError(f"No input device matching {device!r}")
        return self.listed[0]

    def open(self, **settings):
        if settings["samplerate"] not in (44_100, 48_000):
            raise self.library.PortAudioError("Error opening InputStream: Invalid sample rate", -9997)
        if settings["channels"] > 2:
            raise self.library.PortAudioError("Error opening InputStream: Invalid number of channels", -9998)
        self.streams.append(Stream(settings))
        return self.streams[-1]


class Stream:
    def __init__(self, settings):
        self.settings = settings
        self.closed = False

    def start(self):
        pass

    def hear(self, value=0.5, overflow=False):
        samples = np.full((self.settings["blocksize"], self.settings["channels"]), value, np.float32)
        self.settings["callback"](samples, len(samples), None, SimpleNamespace(input_overflow=overflow))
        samples[:] = np.nan  # PortAudio uses its buffer again

    def unplug(self):
        self.settings["finished_callback"]()

    def abort(self, ignore_errors=True):
        pass

    def close(self, ignore_errors=True):
        self.closed = True


@pytest.fixture
def device(monkeypatch):
    library = sounddevice()
    device = Device(library)
    monkeypatch.setattr(library, "query_devices", device.query)
    monkeypatch.setattr(library, "InputStream", device.open)
    return device


def opened(said=(), name=None, rate=48_000, channels=1, stall_seconds=5.0):
    report = said.append if isinstance(said, list) else print
    return MicrophoneSession(name, rate, channels, report, stall_seconds)


def test_blocks_come_with_the_time_of_their_first_sample(device):
    session = opened()
    for value in (0.25, 0.5):
        device.streams[0].hear(value)
    blocks = iter(session)
    first, second = next(blocks), next(blocks)
    assert first.samples.shape == (4_800, 1)
    assert (first.samples == 0.25).all()
    assert (second.samples == 0.5).all()
    assert first.sample_rate == 48_000
    assert first.lost_samples == 0
    assert 0 <= second.captured_at - first.captured_at < 1
    session.close()
    assert device.streams[0].closed


def test_what_the_device_refuses_is_replaced_by_its_own(device):
    said = []
    session = opened(said, rate=32_000, channels=4)
    assert device.streams[0].settings["samplerate"] == 48_000
    assert device.streams[0].settings["channels"] == 2
    assert said == [
        "microphone: refuses rate 32000, its own 48000 is used",
        "microphone: refuses channels 4, its own 2 is used",
    ]
    session.close()


def test_a_device_that_refuses_its_own_rate_is_an_error(device):
    device.listed[0]["default_samplerate"] = 8_000.0
    with pytest.raises(
        ValueError, match="microphone: cannot be opened with 8000 Hz and 1 channels .*Invalid sample rate"
    ):
        opened(rate=16_000)


def test_no_such_device_names_those_that_are_there(device):
    with pytest.raises(ValueError, match=r"microphone Bob: there is no such input \(PortAudio's inputs are: USB Mic\)"):
        opened(name="Bob")
    device.plugged, device.listed = False, []
    with pytest.raises(ValueError, match=r"microphone: there is no such input \(PortAudio finds no input at all\)"):
        opened()


def test_what_the_device_lost_is_counted_by_the_clock(device):
    session = opened()
    device.streams[0].hear()
    time.sleep(0.2)
    device.streams[0].hear(overflow=True)
    blocks = iter(session)
    next(blocks)
    # 0.2 s have passed, of which the second block itself is 0.1 s.
    assert 4_000 <= next(blocks).lost_samples <= 48_000
    session.close()


def test_a_reader_that_is_late_loses_and_knows_how_much(device):
    session = opened()
    for _ in range(105):
        device.streams[0].hear()
    blocks = iter(session)
    for _ in range(100):
        assert next(blocks).lost_samples == 0
    device.streams[0].hear()
    assert next(blocks).lost_samples == 5 * 4_800
    session.close()


def test_unplugged_or_mute_it_is_lost(device):
    session = opened()
    device.streams[0].hear()
    device.streams[0].unplug()
    blocks = iter(session)
    next(blocks)
    with pytest.raises(Lost, match="microphone: stopped, as when it is unplugged"):
        next(blocks)
    session.close()
    mute = opened(stall_seconds=0.05)
    with pytest.raises(Lost, match="microphone: gives nothing for 0.05 s"):
        next(iter(mute))
    mute.close()


def until(happened):
    while not happened():
        time.sleep(0.01)


def test_the_stream_goes_on_when_it_is_plugged_in_again(device):
    said = []
    source = open_source("mic:USB", 48_000, report=said.append)
    source._first_pause = 0.05
    assert source.live
    blocks, unplugged_seconds = [], []

    def life():
        """Each thing when what came before it was noticed."""
        device.streams[0].hear()
        until(lambda: blocks)
        began = time.monotonic()
        device.plugged = False
        device.streams[0].unplug()
        time.sleep(0.3)
        until(lambda: len(said) >= 2)
        unplugged_seconds.append(time.monotonic() - began)
        device.plugged = True
        until(lambda: len(device.streams) >= 2)
        device.streams[1].hear()
        device.streams[1].hear()

    threading.Thread(target=life, daemon=True).start()
    guard = threading.Timer(60, source.stop)
    guard.start()
    for block in source:
        blocks.append(block)
        if len(blocks) == 3:
            source.stop()
    source.close()
    guard.cancel()
    assert [block.lost_samples > 0 for block in blocks] == [False, True, False]
    assert blocks[1].lost_samples >= (unplugged_seconds[0] - 0.1) * 48_000  # but for its own length
    assert said[0].startswith("microphone USB: stopped, as when it is unplugged; it is opened again")
    assert said[1].startswith("microphone USB: there is no such input (PortAudio's inputs are: USB Mic)")
    assert said[-1].startswith("microphone USB: is back after")


def test_it_ends_while_it_waits(device):
    source = open_source("mic", 48_000, report=print)
    threading.Timer(0.1, source.stop).start()
    began = time.monotonic()
    assert list(source) == []
    source.close()
    assert time.monotonic() - began < 3


def test_without_the_package_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ImportError, match=r"needs the package sounddevice: pip install 'kerastag\[mic\]'"):
        opened()


def test_a_device_of_alsa_is_heard_through_portaudio(tmp_path):
    """No microphone is needed: ALSA itself gives the samples of a file as those of a device."""
    sounddevice()
    ramp = np.linspace(-0.5, 0.5, 160_000, dtype=np.float32)
    (tmp_path / "heard.raw").write_bytes(ramp.tobytes())
    (tmp_path / ".asoundrc").write_text(
        f'pcm.from_file {{ type file slave.pcm "null" file "/dev/null" infile "{tmp_path}/heard.raw" format "raw" }}\n'
    )
    code = """
import sounddevice
if not any("from_file" in device["name"] for device in sounddevice.query_devices()):
    print("no ALSA")
else:
    import itertools, numpy as np
    from kerastag.edge.sources import open_source
    source = open_source("mic:from_file", 16_000, report=print)
    blocks = list(itertools.islice(source, 20))
    source.stop()
    source.close()
    samples = np.concatenate([block.samples for block in blocks])
    print(samples.shape, {block.sample_rate for block in blocks}, float(np.abs(np.diff(samples[:, 0])).max()) < 1e-4)
    try:
        open_source("mic:nobody", 16_000)
    except ValueError as error:
        print("from_file" in str(error))
"""
    out = run_python(code, {"HOME": str(tmp_path)}).strip()
    if out == "no ALSA":
        pytest.skip("needs PortAudio over ALSA")
    assert out.splitlines() == ["(32000, 1) {16000} True", "True"]
