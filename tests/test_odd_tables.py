"""Tables that people bring: what they hold is used, or named in one line with its file and line."""

import logging

import pytest
from tiny_probe import CATEGORIES, tiny_rows, write_broden, write_tidy_broden

from nemesis.errors import InputError
from nemesis.probes.broden import read_broden
from nemesis.probes.probe import open_probe, prepare_probe, read_concepts
from nemesis.probes.sizes import size_probe
from nemesis.rows import read_rows

SPREADSHEET = "a,b,c\n1,2,3\n,,\n\n4,5,\n , ,\n"


def write(path, text: str | bytes):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def edit(path, old: str, new: str, count: int = 1):
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, count).encode())


def edit_line(path, line: int, change):
    """Rewrite one line of a file, counted from 1."""
    lines = path.read_text().splitlines()
    lines[line - 1] = change(lines[line - 1])
    path.write_text("\n".join(lines) + "\n")


# Any table.


def test_rows_without_content_are_skipped(tmp_path):
    rows = read_rows(write(tmp_path / "t.csv", SPREADSHEET), ("a", "c"))
    assert rows == [(2, {"a": "1", "b": "2", "c": "3"}), (5, {"a": "4", "b": "5", "c": ""})]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa, b ,c\n1,2,3\n",
        "a,b,c\r\n1,2,3\r\n",
        "a,b,c\r1,2,3",
        "\n\na,b,c\n1,2,3",
        "a,b,c,,\n1,2,3,,\n,,,,\n",
        "a,b,c\n1,2,3,,\n",
        '"a","b","c"\n"1","2","3"\n',
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, text):
    (row,) = read_rows(write(tmp_path / "t.csv", text), ("a", "b", "c"))
    assert row[1] == {"a": "1", "b": "2", "c": "3"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2,3\n\n1,2\n", "line 4: has 2 cells, the header has 3; is it cut off?"),
        ("a,b,c\n1,2,3,4\n", "line 2: has 4 cells, the header has 3; does a cell hold a comma"),
        ("a,b,c,\n1,2,3,4\n", "line 2: has 4 cells, the header has 3"),
        ("a;b;c\n1;2;3\n", "cells are separated by a semicolon; expected a comma"),
        ("a\tb\tc\n1\t2\t3\n", "cells are separated by a tab; expected a comma"),
        ("sep=;\na;b;c\n", "cells are separated by a semicolon; expected a comma"),
        ("a,b,a,c\n1,2,3,4\n", "column 'a' stands twice in the header"),
        ('a,b,c\n1,"2,3\n4,5,6\n', "line 3: cannot be read as CSV"),
        ("a,b,c\n1,2,é\n".encode("latin-1"), "line 2: not UTF-8 (byte 0xe9); save it as `CSV UTF-8`"),
        ("a,b,c\n".encode("utf-16"), "is in UTF-16; expected a CSV file in UTF-8"),
        ("a,b,c\n".encode("utf-16-le"), "is in UTF-16; expected a CSV file in UTF-8"),
        ("A,b,c\n", "lacks column 'a' (it has A, b, c)"),
        ("", "lacks column 'a' (it has )"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, text, message):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(InputError) as caught:
        read_rows(path, ("a", "b", "c"))
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path, ())
    with pytest.raises(InputError, match="not found; look elsewhere"):
        read_rows(tmp_path / "none.csv", (), "look elsewhere")


# A folder in Broden's layout.

# what is wrong: (table, line to change or None for a new last line, change, what the line must say)
BROKEN = {
    "cut row": ("index.csv", 3, lambda line: line.rsplit(",", 1)[0], "index.csv: line 3: has 11 cells"),
    "a cell too many": ("index.csv", 4, lambda line: f"{line},more", "index.csv: line 4: has 13 cells"),
    "backslashes": (
        "index.csv",
        2,
        lambda line: line.replace("t/000.png", "t\\000.png"),
        "index.csv: line 2: 't\\000.png' is no path below images/",
    ),
    "absolute mask": (
        "index.csv",
        2,
        lambda line: line.replace("t/000_object0", "/t/000_object0"),
        "index.csv: line 2: '/t/000_object0.png' is no path below images/",
    ),
    "drive": (
        "index.csv",
        2,
        lambda line: line.replace("t/000.png", "C:/000.png"),
        "index.csv: line 2: 'C:/000.png' is no path below images/",
    ),
    "folder above": (
        "index.csv",
        2,
        lambda line: line.replace("t/000.png", "../000.png"),
        "index.csv: line 2: '../000.png' is no path below images/",
    ),
    "no image": ("index.csv", 2, lambda line: line.replace("t/000.png", ""), "index.csv: line 2: image is empty"),
    "unknown label": (
        "index.csv",
        5,
        lambda line: line.replace(",1,", ",12,", 1),
        "index.csv: line 5 (t/003.png): label number 12 is not in label.csv",
    ),
    "number twice": (
        "label.csv",
        None,
        lambda _: "3,chair",
        "label.csv: line 14: label number 3 stands in line 4 already",
    ),
    "number twice in a category": (
        "c_part.csv",
        None,
        lambda _: "9,4,leg,1,7",
        "c_part.csv: line 5: label number 4 stands in line 2 already",
    ),
    "no name": ("label.csv", 4, lambda _: "3, ", "label.csv: label 3 has no name"),
    "no number": ("label.csv", 4, lambda _: ",table", "label.csv: line 4: label number '' must be an integer"),
    "no coverage": ("c_part.csv", 2, lambda line: line[:-3], "c_part.csv: line 2: label 4: coverage must be a number"),
    "category twice": ("category.csv", None, lambda _: "object", "category.csv: line 9: category object stands there"),
    "category without a name": (
        "category.csv",
        None,
        lambda _: '" "\nimage',
        "category.csv: line 10: 'image'",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_row_is_named_by_its_line(broden, what):
    table, line, change, message = BROKEN[what]
    if line:
        edit_line(broden / table, line, change)
    else:
        (broden / table).write_text((broden / table).read_text().rstrip("\n") + f"\n{change('')}\n")
    with pytest.raises(InputError) as caught:
        read_broden(broden)
    assert str(caught.value).startswith(f"{broden}/{message}"), str(caught.value)


# what is remarkable: (table, old text, new text, the note); the tiny probe itself has three notes
REMARKABLE = {
    "column": ("index.csv", "material", "substance", "index.csv: columns not used, because category.csv"),
    "image twice": ("index.csv", "t/001.png", "t/000.png", "images that stand there twice count twice (lines 2, 3)"),
    "unknown number": (
        "c_part.csv",
        ",4,leg",
        ",44,leg",
        "label numbers that label.csv lacks are not used: 44",
    ),
    "another name": ("c_part.csv", "leg", "arm", "names are taken from label.csv, where they differ: 4 is leg"),
    "name twice": (
        "label.csv",
        "4,leg",
        "4,table",
        "names of several label numbers, which count one by one: table",
    ),
}


@pytest.mark.parametrize("what", REMARKABLE)
def test_what_is_not_used_is_said(broden, caplog, what):
    table, old, new, note = REMARKABLE[what]
    edit(broden / table, old, new)
    if what == "column":  # it is a category no longer
        edit(broden / "category.csv", "material\r\n", "")
        (broden / "c_material.csv").unlink()
    notes = read_broden(broden).remarks.finish()
    assert [note in found for found in notes].count(True) == 1, notes
    assert [note in record.getMessage() for record in caplog.records].count(True) == 1


def test_the_notes_of_a_probe(broden, tmp_path, caplog):
    expected = [
        "category.csv: not used, because index.csv has no column of that name: weather",
        "label.csv: labels that no c_<category>.csv lists count as material, the last category: ghost",
        "index.csv: 2 of 14 images have no label and take no part (line 6, 11)",
    ]
    prepare_probe(broden, tmp_path / "p.zarr", tmp_path / "c.csv")
    assert open_probe(tmp_path / "p.zarr").store.attrs["notes"] == expected
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        f"{broden}: {note}" for note in expected
    ]


def test_a_tidy_probe_has_no_notes(tmp_path, caplog):
    prepare_probe(write_tidy_broden(tmp_path / "b", tiny_rows()), tmp_path / "p.zarr", tmp_path / "c.csv")
    assert open_probe(tmp_path / "p.zarr").store.attrs["notes"] == []
    assert caplog.text == ""


def test_what_was_asked_for_is_noted_without_a_warning(broden, tmp_path, caplog):
    edit_line(broden / "index.csv", 15, lambda line: line.replace("train", " "))
    edit_line(broden / "index.csv", 2, lambda line: line.replace("val", "val "))
    prepare_probe(broden, tmp_path / "p.zarr", tmp_path / "c.csv", splits=["val"], max_images=2)
    probe = open_probe(tmp_path / "p.zarr")
    assert probe.names == ["t/000.png", "t/005.png"]
    notes = probe.store.attrs["notes"][2:]
    assert notes[:-1] == [
        "splits: 3 of 14 images, those of val",
        "index.csv: 1 images have no split and are left out",
        "max_images: the first 2 of 3 images",
    ]
    assert notes[-1].startswith("label.csv: ") and "of 12 labels occur in no image: " in notes[-1]
    warned = "".join(record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert [note in warned for note in notes] == [False, True, False, False]


def test_labels_that_occur_nowhere_are_said(tmp_path, caplog):
    root = write_broden(tmp_path / "b", tiny_rows(1))
    prepare_probe(root, tmp_path / "p.zarr", tmp_path / "c.csv")
    absent = [row["name"] for row in read_concepts(tmp_path / "c.csv") if not row["frequency"]]
    assert absent
    assert f"label.csv: {len(absent)} of 12 labels occur in no image: {', '.join(absent)}"[:60] in caplog.text


def test_a_category_of_ones_own_is_a_category(broden, tmp_path):
    for table in ("index.csv", "category.csv"):
        edit(broden / table, "object", "my vehicles, old" if table == "category.csv" else '"my vehicles, old"')
    edit(broden / "category.csv", "my vehicles, old", '"my vehicles, old"')
    (broden / "c_object.csv").rename(broden / "c_my vehicles, old.csv")
    prepare_probe(broden, tmp_path / "p.zarr", tmp_path / "c.csv")
    categories = tuple("my vehicles, old" if name == "object" else name for name in CATEGORIES)
    assert tuple(open_probe(tmp_path / "p.zarr").categories) == categories
    named = {row["name"]: row["category"] for row in read_concepts(tmp_path / "c.csv")}
    assert (named["table"], named["zebra"], named["leg"]) == ("my vehicles, old", "my vehicles, old", "part")


def test_a_category_of_ones_own_needs_its_table(broden):
    edit(broden / "index.csv", "object", "vehicle")
    edit(broden / "category.csv", "object", "vehicle")
    with pytest.raises(InputError, match=r"c_vehicle.csv: not found"):
        read_broden(broden)


def test_tables_of_other_categories_are_named(broden):
    (broden / "c_sound.csv").write_text("code,number,name,coverage\n")
    assert any(note.endswith(": c_sound.csv") for note in read_broden(broden).remarks.finish())


@pytest.mark.parametrize("table", ["index.csv", "label.csv", "category.csv", "c_object.csv"])
def test_a_spreadsheets_lines_change_nothing(broden, tmp_path, table):
    before = read_broden(broden)
    text = (broden / table).read_text()
    commas = "," * text.splitlines()[0].count(",")
    (broden / table).write_text("\ufeff" + text.replace("\n", f"\n{commas}\n\n") + f"{commas},,\n", encoding="utf-8")
    after = read_broden(broden)
    assert (after.rows, after.concepts, after.categories) == (before.rows, before.concepts, before.categories)
    size = size_probe("p", {"kind": "broden", "path": str(broden)})
    assert (size.images, size.concepts) == (14, 12)


# The cases.


def test_case_of_a_category_of_ones_own(shared, tmp_path):
    prepare_probe(shared("cases/own-category/probe"), tmp_path / "p.zarr", tmp_path / "c.csv")
    probe = open_probe(tmp_path / "p.zarr")
    assert (probe.categories, probe.store.attrs["notes"]) == (["color", "vehicle"], [])
    rows = {row["name"]: (row["category"], row["frequency"]) for row in read_concepts(tmp_path / "c.csv")}
    assert rows["square"] == ("vehicle", 4)


def test_case_of_a_short_row(shared):
    with pytest.raises(InputError, match=r"index.csv: line 3: has 7 cells, the header has 8; is it cut off\?"):
        read_broden(shared("cases/short-row/probe"))


def test_case_of_blank_lines(shared):
    assert len(read_broden(shared("cases/excel-blank-lines/probe")).rows) == 4
