"""Markdown tables."""

from collections.abc import Iterable, Sequence

__all__ = ["format_table"]


def format_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Format a Markdown table.

    Args:
        header: Titles of the columns.
        rows: Cells of each row, as many as there are columns; a `|` in a cell is escaped, and a line end
            becomes a space.

    Returns:
        Lines of the table, without a line end after the last one.

    Raises:
        ValueError: A row has more or fewer cells than the header.

    >>> print(format_table(["system", "mAP"], [["es_average", "0.6574"]]))
    | system | mAP |
    | --- | --- |
    | es_average | 0.6574 |
    """
    header = list(header)
    lines = [_format_row(header), _format_row(["---"] * len(header))]
    for row in rows:
        cells = list(row)
        if len(cells) != len(header):
            raise ValueError(f"`rows` must have {len(header)} cells each; received: {len(cells)} in {cells!r}")
        lines.append(_format_row(cells))
    return "\n".join(lines)


def _format_row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(" ".join(str(cell).splitlines()).replace("|", "\\|") for cell in cells) + " |"
