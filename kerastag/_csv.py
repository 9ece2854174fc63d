"""Reading of text and CSV files as people have them; `kerastag.files` writes them."""

import codecs
import csv
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class TextWarning(UserWarning):
    """A text file is in another encoding than UTF-8."""


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, in UTF-16 with a byte order mark, or in Windows-1252 with a warning.

    Raises:
        ValueError: There are other bytes; the message names the line.
    """
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        windows_text = _decode_windows_text(content)
        if windows_text is None:
            line = content.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{path}: line {line}: must be a text file in UTF-8 or UTF-16") from error
        text = windows_text
        warnings.warn(f"{path}: not UTF-8, read as Windows-1252", TextWarning, stacklevel=3)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{path}: line {line}: must be a text file without NUL characters")
    return text


def _decode_windows_text(content: bytes) -> str | None:
    """Decode what Excel writes on Windows; None for UTF-8 with a few damaged bytes, and for what is not text."""
    if not content.decode("utf-8", "ignore").isascii():
        return None
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        return None
    return text if all(character.isprintable() or character.isspace() for character in text) else None


def read_records(
    path: Path, text: str, delimiter: str = ",", first_line: int = 1, quoting: int = csv.QUOTE_MINIMAL
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each row that is not blank; a ValueError names the line of a bad quote."""
    stream = io.StringIO(text, newline="")
    options: dict[str, Any] = {"delimiter": delimiter, "quoting": quoting, "skipinitialspace": delimiter != "\t"}
    reader = csv.reader(stream, **options)
    while True:
        start, line = stream.tell(), first_line + reader.line_num
        try:
            cells = next(reader, None)
            if stream.tell() == len(text):  # Otherwise a quote that is not closed would end with the file.
                list(csv.reader(io.StringIO(text[start:], newline=""), **options, strict=True))
        except csv.Error as error:
            if "expected after" not in str(error):  # Text after a closing quote is harmless.
                reason = "a quote is not closed, or a cell has more than 131,072 characters"
                raise ValueError(f"{path}: line {line}: {reason}") from error
        if cells is None:
            return
        cells = [cell.strip() for cell in cells]
        if any(cells):
            yield line, cells
