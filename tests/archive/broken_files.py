"""Files with the names of recordings that cannot be tagged, of many kinds, each with the kind of its failure."""

import os
import shutil
import struct
import subprocess
import sys
import zipfile

import numpy as np
import soundfile

RATE = 16_000
SOUND = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
HAS_FFMPEG = shutil.which("ffmpeg") is not None


# Kind of a file that libsndfile cannot decode, which may be of a format that needs ffmpeg.
NOT_AUDIO = "not_audio" if HAS_FFMPEG else "ffmpeg"


def write_broken_files(folder):
    """Write one file of each kind, and return the kinds of failures by the name of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {}
    for write in (_write_bytes, _write_headers, _write_truncated, _write_samples, _write_entries, _write_videos):
        kinds |= write(folder)
    return kinds


def _write_bytes(folder):
    random = np.random.default_rng(1).bytes(20_000)
    contents = {
        "text.mp3": b"hello",
        "text.wav": b"hello world " * 100,
        "page.mp3": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "utf16.wav": "not audio".encode("utf-16"),
        "object.json.wav": b'{"error": "expired"}',
        "pointer.flac": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "playlist.wav": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/passwd\n",
        "script.mp3": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "random.flac": b"fLaC" + random,
        "random.ogg": b"OggS" + random,
        "random.m4a": struct.pack(">I4s4s", 24, b"ftyp", b"M4A ") + random,
        "random.webm": b"\x1a\x45\xdf\xa3" + random[:5000],
        "zeros.wav": bytes(4096),
        "zeros.mp3": bytes(4096),
        "ones.wav": b"\xff" * 4096,
        "picture.wav": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + random[:4000],
        "picture.flac": b"\x89PNG\r\n\x1a\n" + random[:4000],
        "document.mp3": b"%PDF-1.7\n" + b"1 0 obj\n<< >>\nendobj\n" * 50,
        "database.wav": b"SQLite format 3\x00" + bytes(1000),
        "program.wav": b"\x7fELF\x02\x01\x01" + bytes(1000),
        "packed.wav": b"\x1f\x8b\x08\x00" + random[:1000],
        "notes.aiff": b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x00\x60MTrk\x00\x00\x00\x04\x00\xff\x2f\x00",
        "tag.mp3": b"ID3\x04\x00\x00\x00\x00\x07\x76" + bytes(1014),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "archive.wav", "w") as archive:
        archive.writestr("a.txt", "hello")
    for extension in ("wav", "flac", "mp3"):
        (folder / f"empty.{extension}").touch()
    names = dict.fromkeys([*contents, "archive.wav"], "not_audio")
    return {**names, **{f"empty.{extension}": "empty" for extension in ("wav", "flac", "mp3")}}


def _write_headers(folder):
    """Write WAV files whose header is wrong."""
    samples = (3000 * np.sin(np.arange(4000))).astype("<i2").tobytes()

    def wav(name, tag=1, channels=1, rate=RATE, width=2, bits=16, data=samples):
        form = struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits)
        body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
        (folder / name).write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)

    wav("codec.wav", tag=0x1234)
    wav("channels.wav", channels=0)
    wav("bits.wav", bits=0, width=0)
    wav("slow.wav", rate=100)
    wav("fast.wav", rate=2_000_000)
    wav("no_samples.wav", data=b"")
    riff = b"RIFF" + struct.pack("<I", 28) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    (folder / "no_data.wav").write_bytes(riff)
    (folder / "half_length.wav").write_bytes(riff + b"data\0\0")
    return {
        **dict.fromkeys(("codec.wav", "channels.wav", "bits.wav", "no_data.wav"), "not_audio"),
        "slow.wav": "sample_rate",
        "fast.wav": "sample_rate",
        "no_samples.wav": "no_samples",
        "half_length.wav": "no_samples",
    }


def _write_truncated(folder):
    """Write files of which only the beginning is left."""
    lengths = {
        "wav": 20, "flac": 60, "ogg": 40, "mp3": 30, "aiff": 30, "au": 12, "caf": 30, "w64": 60,
    }  # fmt: skip
    for extension, length in lengths.items():
        path = folder / f"truncated.{extension}"
        soundfile.write(path, SOUND, RATE)
        os.truncate(path, length)
    path = folder / "no_frame.flac"
    soundfile.write(path, SOUND, RATE)
    content = bytearray(path.read_bytes())
    content[8 + 34 :] = bytes(len(content) - 42)
    path.write_bytes(content)
    return {**{f"truncated.{extension}": "not_audio" for extension in lengths}, "no_frame.flac": "damaged"}


def _write_samples(folder):
    """Write recordings whose samples are not sound; those of the last one only after two minutes."""
    samples = {"nan": np.nan, "infinity": np.inf, "loud": 1e6}
    for name, value in samples.items():
        sound = SOUND.copy()
        sound[1000] = value
        soundfile.write(folder / f"{name}.wav", sound, RATE, subtype="FLOAT")
    soundfile.write(folder / "integers.wav", np.rint(20_000 * SOUND), RATE, subtype="FLOAT")
    late = np.tile(SOUND, 60)
    late[-1] = np.nan
    soundfile.write(folder / "late.wav", late, RATE, subtype="DOUBLE")
    return dict.fromkeys((*(f"{name}.wav" for name in samples), "integers.wav", "late.wav"), "samples")


def _write_entries(folder):
    """Make entries of the folder that are not regular files."""
    if sys.platform == "win32":
        return {}
    os.mkfifo(folder / "pipe.wav")
    (folder / "zero.wav").symlink_to("/dev/zero")
    (folder / "nothing.wav").symlink_to("/dev/null")
    (folder / "lost.wav").symlink_to("no such file")
    (folder / "loop.wav").symlink_to("loop.wav")
    kinds = {
        "pipe.wav": "not_a_file",
        "zero.wav": "not_a_file",
        "nothing.wav": "not_a_file",
        "lost.wav": "missing",
        "loop.wav": "unreadable",
    }
    if os.fsencode("\udcff.wav") == b"\xff.wav":
        path = os.fsencode(folder) + b"/caf\xff.wav"
        with open(path, "wb") as file:  # noqa: PTH123 - a name of bytes
            file.write(b"RIFF")
        kinds["caf\\xff.wav"] = "name"
    return kinds


def _write_videos(folder):
    """Write a video without sound, and one that lacks the index at its end."""
    if not HAS_FFMPEG:
        return {}
    source = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=black:s=32x32:d=0.2"]
    subprocess.run([*source, folder / "silent.mp4"], check=True)
    sine = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=2"]
    subprocess.run([*sine, folder / "index.m4a"], check=True)
    content = (folder / "index.m4a").read_bytes()
    (folder / "index.m4a").write_bytes(content[: len(content) // 2])
    return {"silent.mp4": "no_audio", "index.m4a": "not_audio"}
