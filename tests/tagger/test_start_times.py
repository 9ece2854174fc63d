"""Start times of recordings, from GUANO metadata, comments of AudioMoths and file names."""

import struct

import numpy as np
import pytest
import soundfile

from kerastag.tagger.start_times import read_start_time


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20240518_063000.WAV", "2024-05-18T06:30:00"),
        ("S4A01234_20180430_054008.wav", "2018-04-30T05:40:08"),
        ("SITE_2024-05-18T06-30-00.wav", "2024-05-18T06:30:00"),
        ("20240518_063000+0200.wav", "2024-05-18T06:30:00+02:00"),
        ("2026-11-22T20-31-05.120Z_Bark.flac", "2026-11-22T20:31:05.120000+00:00"),
        ("20240518-0630.mp3", "2024-05-18T06:30:00"),
        ("5AFE1B8C.WAV", "2018-05-18T00:17:16+00:00"),
        ("20150923.wav", None),
        ("a_20241399_063000.wav", None),
        ("1234567890123456.wav", None),
        ("DEADBEEF.wav", None),
        ("track 01.mp3", None),
    ],
)
def test_the_name_of_a_recording_has_its_start_time(name, expected):
    time = read_start_time(name)
    assert (None if time is None else time.isoformat()) == expected


def make_chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def write_wav(path, *chunks):
    soundfile.write(path, np.zeros(160), 16_000)
    content = path.read_bytes() + b"".join(chunks)
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    return path


def test_guano_metadata_precede_the_name(tmp_path):
    guano = b"GUANO|Version: 1.0\nMake: Pettersson\nTimestamp: 2017-04-29T22:15:32.5-07:00\nLoc Accuracy: 3\n"
    path = write_wav(tmp_path / "20240518_063000.wav", make_chunk(b"guan", guano))
    assert read_start_time(path).isoformat() == "2017-04-29T22:15:32.500000-07:00"


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("UTC", "+00:00"), ("UTC+2", "+02:00"), ("UTC-3:30", "-03:30"), ("UTC+05:45", "+05:45")],
)
def test_the_comment_of_an_audiomoth_has_its_time_zone(tmp_path, zone, expected):
    comment = f"Recorded at 19:17:30 17/02/2019 ({zone}) by AudioMoth 0FE081F80FE081F0 at gain setting 2".encode()
    information = make_chunk(b"LIST", b"INFO" + make_chunk(b"IART", b"AudioMoth") + make_chunk(b"ICMT", comment))
    assert read_start_time(write_wav(tmp_path / "a.wav", information)).isoformat() == "2019-02-17T19:17:30" + expected


def test_damaged_metadata_do_not_hide_the_name(tmp_path):
    path = tmp_path / "20240518_063000.wav"
    for content in (
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\xffINFOICMT\xff\xff\xff\xff",
        b"fLaC" + b"\0" * 99,
    ):
        path.write_bytes(content)
        assert read_start_time(path).isoformat() == "2024-05-18T06:30:00"
