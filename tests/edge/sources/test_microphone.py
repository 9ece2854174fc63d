"""The microphone: sounddevice with a fake device, and PortAudio with a virtual device of ALSA."""

import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from edge.models import wait_for

from checks import run_python
from kerastag.edge.sources import open_source
from kerastag.edge.sources.microphone import MicrophoneSession
from kerastag.edge.sources.pcm import SourceLostError


def import_sounddevice():
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        pytest.skip(f"needs sounddevice and PortAudio: {error}")
    return sounddevice


class FakeDevice:
    """A microphone of 48 kHz and two channels behind `sounddevice.InputStream` and `query_devices`."""

    def __init__(self, library):
        self.library = library
        self.streams = []
        self.is_plugged_in = True
        self.entries = [{"name": "USB Mic", "max_input_channels": 2, "default_samplerate": 48_000.0}]

    def query(self, device=None, kind=None):
        if kind is None:
            return self.entries
        if not self.is_plugged_in or (device is not None and str(device) not in "USB Mic"):
            raise ValueError(f"No input device matching {device!r}")
        return self.entries[0]

    def open(self, **settings):
        if settings["samplerate"] not in (44_100, 48_000):
            raise self.library.PortAudioError("Error opening InputStream: Invalid sample rate", -9997)
        if settings["channels"] > 2:
            raise self.library.PortAudioError("Error opening InputStream: Invalid number of channels", -9998)
        self.streams.append(FakeStream(settings))
        return self.streams[-1]


class FakeStream:
    def __init__(self, settings):
        self.settings = settings
        self.closed = False
        self.start = self.abort = lambda **options: None

    def capture(self, value=0.5, overflow=False):
        samples = np.full((self.settings["blocksize"], self.settings["channels"]), value, np.float32)
        self.settings["callback"](samples, len(samples), None, SimpleNamespace(input_overflow=overflow))
        samples[:] = np.nan  # PortAudio reuses its buffer

    def unplug(self):
        self.settings["finished_callback"]()

    def close(self, ignore_errors=True):
        self.closed = True


@pytest.fixture
def device(monkeypatch):
    library = import_sounddevice()
    device = FakeDevice(library)
    monkeypatch.setattr(library, "query_devices", device.query)
    monkeypatch.setattr(library, "InputStream", device.open)
    return device


def open_session(log=print, name=None, rate=48_000, channels=1, timeout_seconds=5.0):
    return MicrophoneSession(name, rate, channels, log, timeout_seconds)


def test_blocks_have_the_time_of_their_first_sample(device):
    session = open_session()
    for value in (0.25, 0.5):
        device.streams[0].capture(value)
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


def test_refused_settings_are_replaced_by_those_of_the_device_unless_these_are_refused_too(device):
    lines = []
    session = open_session(lines.append, rate=32_000, channels=4)
    assert device.streams[0].settings["samplerate"] == 48_000
    assert device.streams[0].settings["channels"] == 2
    assert lines == [
        "microphone: refuses rate 32000; using 48000 instead",
        "microphone: refuses channels 4; using 2 instead",
    ]
    session.close()
    device.entries[0]["default_samplerate"] = 8_000.0
    with pytest.raises(ValueError, match="microphone: cannot be opened with 8000 Hz and 1 channels .*Invalid sample"):
        open_session(rate=16_000)


def test_a_missing_device_is_an_error_that_lists_the_devices(device):
    with pytest.raises(ValueError, match=r"microphone Bob: no such input \(the inputs of PortAudio are: USB Mic\)"):
        open_session(name="Bob")
    device.is_plugged_in, device.entries = False, []
    with pytest.raises(ValueError, match=r"microphone: no such input \(PortAudio has no inputs\)"):
        open_session()


def test_samples_that_the_device_lost_are_counted_by_the_clock(device):
    session = open_session()
    device.streams[0].capture()
    time.sleep(0.2)
    device.streams[0].capture(overflow=True)
    blocks = iter(session)
    next(blocks)
    # 0.2 s have passed, and the second block is 0.1 s of them.
    assert 4_000 <= next(blocks).lost_samples <= 48_000
    session.close()


def test_samples_that_a_slow_reader_loses_are_counted(device):
    session = open_session()
    for _ in range(105):
        device.streams[0].capture()
    blocks = iter(session)
    for _ in range(100):
        assert next(blocks).lost_samples == 0
    device.streams[0].capture()
    assert next(blocks).lost_samples == 5 * 4_800
    session.close()


def test_an_unplugged_or_silent_device_is_lost(device):
    session = open_session()
    device.streams[0].capture()
    device.streams[0].unplug()
    blocks = iter(session)
    next(blocks)
    with pytest.raises(SourceLostError, match="microphone: stopped, probably unplugged"):
        next(blocks)
    session.close()
    silent = open_session(timeout_seconds=0.05)
    with pytest.raises(SourceLostError, match="microphone: nothing came for 0.05 s"):
        next(iter(silent))
    silent.close()


def test_the_stream_continues_when_the_device_is_plugged_in_again(device):
    lines = []
    source = open_source("mic:USB", 48_000, log=lines.append)
    source._first_pause = 0.05
    assert source.live
    blocks, unplugged_seconds = [], []

    def use_device():
        device.streams[0].capture()
        wait_for(lambda: blocks)
        began = time.monotonic()
        device.is_plugged_in = False
        device.streams[0].unplug()
        time.sleep(0.2)
        wait_for(lambda: len(lines) >= 2)
        unplugged_seconds.append(time.monotonic() - began)
        device.is_plugged_in = True
        wait_for(lambda: len(device.streams) >= 2)
        device.streams[1].capture()
        device.streams[1].capture()

    threading.Thread(target=use_device, daemon=True).start()
    for block in source:
        blocks.append(block)
        if len(blocks) == 3:
            source.stop()
    source.close()
    assert [block.lost_samples > 0 for block in blocks] == [False, True, False]
    assert blocks[1].lost_samples >= (unplugged_seconds[0] - 0.1) * 48_000  # less its own duration
    assert lines[0].startswith("microphone USB: stopped, probably unplugged; it is reopened")
    assert lines[1].startswith("microphone USB: no such input (the inputs of PortAudio are: USB Mic)")
    assert lines[-1].startswith("microphone USB: is back after")


def test_stop_ends_a_waiting_source(device):
    source = open_source("mic", 48_000, log=print)
    threading.Timer(0.1, source.stop).start()
    began = time.monotonic()
    assert list(source) == []
    source.close()
    assert time.monotonic() - began < 3


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ImportError, match=r"needs the package sounddevice: pip install 'kerastag\[mic\]'"):
        open_session()


def test_a_device_of_alsa_is_read_through_portaudio(tmp_path):
    """Read a virtual device of ALSA, whose samples are those of a file."""
    import_sounddevice()
    ramp = np.linspace(-0.5, 0.5, 160_000, dtype=np.float32)
    (tmp_path / "ramp.raw").write_bytes(ramp.tobytes())
    (tmp_path / ".asoundrc").write_text(
        f'pcm.from_file {{ type file slave.pcm "null" file "/dev/null" infile "{tmp_path}/ramp.raw" format "raw" }}\n',
        encoding="utf-8",
    )
    code = """
import sounddevice
if not any("from_file" in device["name"] for device in sounddevice.query_devices()):
    print("no ALSA")
else:
    import itertools, numpy as np
    from kerastag.edge.sources import open_source
    source = open_source("mic:from_file", 16_000, log=print)
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
