"""Tables as CSV, Markdown and LaTeX."""

import math

import pandas as pd
import pytest

from nemesis.dissection.tables import read_table
from nemesis.figures.tables import format_share, to_markdown, write_table


def test_shares_as_text():
    assert format_share(0.125, 0.08, 0.171, 80) == "12% [8, 17], n=80"
    assert format_share(math.nan, math.nan, math.nan, 0) == "-"
    assert format_share(math.nan, math.nan, math.nan, 80) == "-"


def test_markdown():
    table = pd.DataFrame({"label": ["a|b", ""], "iou": [0.12345, math.nan], "n": [10, 200], "x": [1.0, 20.5]})
    assert to_markdown(table) == (
        "| label | iou | n | x |\n| --- | --- | --- | --- |\n| a\\|b | 0.123 | 10 | 1 |\n|  | - | 200 | 20.5 |\n"
    )


def test_written_tables_are_read_again(tmp_path):
    table = pd.DataFrame({"label": ["", "NA", "null"], "iou": [1 / 3, 0.0, 1e-9]})
    write_table(table, [tmp_path / f"t.{ending}" for ending in ("csv", "md", "tex")])
    again = read_table(tmp_path / "t.csv")
    assert again["label"].tolist() == ["", "NA", "null"]
    assert again["iou"].tolist() == pytest.approx([1 / 3, 0.0, 1e-9], rel=1e-15)
    assert (tmp_path / "t.md").read_text().count("\n") == 5
    write_table(table, [tmp_path / "s.csv", tmp_path / "s.md"], show=lambda shown: shown[["iou"]])
    assert (tmp_path / "s.md").read_text().startswith("| iou |")
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "t.csv").read_bytes()
    assert not (tmp_path / "s.tex").exists()


def test_a_table_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match=r"t\.html: a table is \.csv, \.md or \.tex"):
        write_table(pd.DataFrame({"iou": [0.1]}), [tmp_path / "t.html"])
