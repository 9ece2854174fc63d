"""Markdown tables."""

import pytest

from kerastag.markdown import format_table


def test_a_table_has_a_header_a_rule_and_a_line_per_row():
    rows = ([name, value] for name, value in (("a", 1), ("b", 2.5)))
    assert format_table(("system", "mAP"), rows) == "| system | mAP |\n| --- | --- |\n| a | 1 |\n| b | 2.5 |"


def test_a_table_without_rows_has_a_header():
    assert format_table(["system"], []) == "| system |\n| --- |"


def test_a_cell_cannot_end_its_column_or_its_row():
    assert format_table(["a"], [["b|c\nd"]]).splitlines()[2] == "| b\\|c d |"


@pytest.mark.parametrize("row", [["a"], ["a", "b", "c"]])
def test_a_row_with_another_number_of_cells_is_rejected(row):
    with pytest.raises(ValueError, match=f"`rows` must have 2 cells each; received: {len(row)}"):
        format_table(["a", "b"], [row])
