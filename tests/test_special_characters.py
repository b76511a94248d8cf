"""Names with any character in every format that is written: what a reader gets back is the name."""

import csv
import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import style
from matplotlib.figure import Figure
from nemesis.figures.noise import STYLE, plot_by_fraction, save_figure
from report_site import read_script
from tiny_probe import CONCEPTS, tiny_rows, write_broden, write_rows

from nemesis.corruption.export import export_poison
from nemesis.dissection.tables import read_table
from nemesis.figures.attacks import read_rows
from nemesis.figures.escape import (
    LONGEST,
    from_markdown_text,
    needs_unicode,
    to_figure_text,
    to_latex_text,
    to_legend_text,
    to_markdown_text,
)
from nemesis.figures.milan_sheet import read_labels
from nemesis.figures.tables import label_table, read_markdown, to_latex, to_markdown, write_table
from nemesis.figures.unit import draw_iou
from nemesis.files import write_csv
from nemesis.pages.formats import save_data, to_columns
from nemesis.probes.broden import read_broden

# name: how Markdown has it, how LaTeX has it
NAMES = {
    "salt & pepper": (r"salt \& pepper", r"salt \& pepper"),
    "snake_case": ("snake_case", r"snake\_case"),
    "_blocks.0": (r"\_blocks.0", r"\_blocks.0"),
    "under_": (r"under\_", r"under\_"),
    "50%": ("50%", r"50\%"),
    "a|b": (r"a\|b", r"a\textbar{}b"),
    r"a\|b": (r"a\\\|b", r"a\textbackslash{}\textbar{}b"),
    "<b>bold</b>": (r"\<b>bold\</b>", r"\textless{}b\textgreater{}bold\textless{}/b\textgreater{}"),
    "</script><script>": (r"\</script>\<script>", r"\textless{}/script\textgreater{}\textless{}script\textgreater{}"),
    "&lt;": (r"\&lt;", r"\&lt;"),
    'say "hi", it\'s': ('say "hi", it\'s', 'say "hi", it\'s'),
    "$x$ and $": (r"\$x\$ and \$", r"\$x\$ and \$"),
    r"\alpha": (r"\\alpha", r"\textbackslash{}alpha"),
    "{braces} #1": ("{braces} #1", r"\{braces\} \#1"),
    "~tilde~ ^ hat": (r"\~tilde\~ ^ hat", r"\textasciitilde{}tilde\textasciitilde{} \textasciicircum{} hat"),
    "*bold* `code`": (r"\*bold\* \`code\`", r"{*}bold* \textasciigrave{}code\textasciigrave{}"),
    "[8, 17]": ("[8, 17]", "{[}8, 17]"),
    "[a](http://b)": (r"[a]\(http://b)", "{[}a](http://b)"),
    "a--b": ("a--b", "a-{}-b"),
    "=1+1": ("=1+1", "=1+1"),
    "قطة": ("قطة", "قطة"),
    "猫": ("猫", "猫"),
    "\N{CAT FACE}": ("\N{CAT FACE}", "\N{CAT FACE}"),
    "007": ("007", "007"),
    "7": ("7", "7"),
    "1e1": ("1e1", "1e1"),
    "True": ("True", "True"),
    "NA": ("NA", "NA"),
    "null": ("null", "null"),
    "long " * 80 + "end": ("long " * 80 + "end",) * 2,
}
# name: what is left of it where a name is one line
BROKEN = {
    " lead": "lead",
    "trail ": "trail",
    "two\nlines": "two lines",
    "old\rMac": "old Mac",
    "of\r\nWindows": "of Windows",
    "a\ttab": "a tab",
    "line\u2028break": "line break",
    "escape\x1b[31m": "escape\ufffd[31m",
}
ALL = [*NAMES, *BROKEN]
LOOKS_LIKE_A_NUMBER = ["007", "7", "1e1", "7.0"]


def dissection(labels):
    count = len(labels)
    columns = {"unit": range(count), "label": labels, "category": "object", "iou": 0.5, "label_2": labels, "iou_2": 0.1}
    return pd.DataFrame(columns)


@pytest.mark.parametrize("read", [read_table, read_rows])
def test_csv_gives_every_name_back(tmp_path, read):
    write_csv(dissection(ALL), tmp_path / "d.csv")
    again = read(tmp_path / "d.csv")
    assert again["label"].tolist() == again["label_2"].tolist() == ALL
    assert again["unit"].tolist() == list(range(len(ALL))) and (again["iou"] == 0.5).all()
    with open(tmp_path / "d.csv", newline="", encoding="utf-8") as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == ALL


def test_csv_without_a_carriage_return_is_quoted_as_ever(tmp_path):
    write_csv(pd.DataFrame({"label": ["a,b", "cat"], "iou": [0.1, 1 / 3], "dead": [True, False]}), tmp_path / "d.csv")
    assert (tmp_path / "d.csv").read_bytes() == b'label,iou,dead\n"a,b",0.1,True\ncat,0.3333333333333333,False\n'
    write_csv(pd.DataFrame({"label": ["a\rb"], "iou": [1 / 3], "dead": [True]}), tmp_path / "d.csv")
    again = read_table(tmp_path / "d.csv")
    assert again.to_dict("records") == [{"label": "a\rb", "iou": 1 / 3, "dead": True}]


def test_concepts_that_look_like_numbers_stay_apart(tmp_path):
    """All of a layer's labels look like numbers, as those of digits do; read as such, 007 and 7 would be one."""
    layer = tmp_path / "digits" / "net" / "1" / "clean"
    layer.mkdir(parents=True)
    write_csv(dissection(LOOKS_LIKE_A_NUMBER), layer / "dissection.csv")
    write_csv(pd.DataFrame({"replicate": 0, "unit": range(4), "changed": False}), layer / "null_churn.csv")
    experiment = {"probe": "digits", "model": "net", "layers": ["1"], "units": {"1": "all"}}
    (line,) = label_table([experiment], 0.04, 0, tmp_path).to_dict("records")
    assert (line["labelled"], line["concepts"]) == (4, 4)
    assert to_columns(read_table(layer / "dissection.csv"))["label"] == LOOKS_LIKE_A_NUMBER  # the page filters texts
    assert list(read_labels(layer / "dissection.csv", 0.04).values()) == [
        f"{name} (IoU 0.50)" for name in LOOKS_LIKE_A_NUMBER
    ]


@pytest.mark.parametrize("name", NAMES)
def test_markdown_and_latex_of_a_name(name):
    assert (to_markdown_text(name), to_latex_text(name)) == NAMES[name]
    assert from_markdown_text(to_markdown_text(name)) == name


def test_markdown_tables_give_every_name_back():
    table = pd.DataFrame({"a|b_": ALL, "label": ["x", *ALL[1:]], "iou": 0.5})
    text = to_markdown(table, "<a note> with $ and _this_")
    header, rows, note = read_markdown(text)
    assert (header, note) == (["a|b_", "label", "iou"], "<a note> with $ and _this_")
    shown = [BROKEN.get(name, name) for name in ALL]
    assert [row[0] for row in rows] == shown and [row[2] for row in rows] == ["0.5"] * len(ALL)
    lines = text.split("\n")
    assert len(lines) == len(ALL) + 5 and not any("\r" in line for line in lines)
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines[: len(ALL) + 2]} == {4}


def read_latex(text: str) -> list[list[str]]:
    """Cells of a LaTeX table's rows; fails on anything that is not plain text, an escaped sign or a named one."""
    body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    sign = r"\\[&%$#_{}]|\\text[a-z]+\{\}|\{[\[*]\}|-\{\}|[^\\&%$#_{}~^<>|`]"
    cells = []
    for line in body.splitlines():
        assert line.endswith(r" \\") and not line.startswith(("[", "*"))
        cells.append(re.split(r" (?<!\\)& ", line.removesuffix(r" \\")))
        for cell in cells[-1]:
            assert re.fullmatch(f"(?:{sign})*", cell), cell
            assert "--" not in cell and "``" not in cell
    return cells


def test_latex_tables_have_a_cell_for_every_name():
    text = to_latex(pd.DataFrame({"label": ALL, "a_b|": ALL}), "a note\nof two lines")
    rows = read_latex(text)
    assert [len(row) for row in rows] == [2] * len(ALL)
    assert [row[0] for row in rows] == [to_latex_text(name) for name in ALL]
    assert r"label & a\_b\textbar{} \\" in text and "% a note of two lines\n" in text


def test_latex_says_when_pdflatex_is_not_enough():
    assert [name for name in NAMES if needs_unicode(name)] == ["قطة", "猫", "\N{CAT FACE}"]
    assert "XeLaTeX" in to_latex(pd.DataFrame({"label": ["猫"]}))
    assert "XeLaTeX" not in to_latex(pd.DataFrame({"label": ["café – “chat”"]}))


def draw_labels(names):
    """A figure with names as title, tick label, annotation and in a legend."""
    with style.context(STYLE):
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        for index, name in enumerate(names):
            axes.plot([0, 1], [index, index], label=to_legend_text(to_figure_text(name)))
            axes.annotate(to_figure_text(name), (0.5, index))
        axes.set_yticks(range(len(names)), [to_figure_text(name) for name in names])
        axes.legend()
        figure.suptitle(" ".join(to_figure_text(name) for name in names[:2]))
    return figure


def svg_texts(path) -> list[str]:
    """Texts of an SVG, which an XML parser must read."""
    texts = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


@pytest.mark.parametrize("names", [ALL[at : at + 5] for at in range(0, len(ALL), 5)])
def test_figures_show_every_name(tmp_path, names):
    save_figure(draw_labels(names), tmp_path / "f.svg", tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size
    texts = svg_texts(tmp_path / "f.svg")
    for name in names:
        shown = BROKEN.get(name, name)
        shown = shown if len(shown) <= LONGEST else shown[: LONGEST - 1].rstrip() + "…"
        assert [text.strip() for text in texts].count(shown.strip()) >= 3, name  # tick, annotation, legend


def test_signs_that_the_font_lacks_are_named_once(tmp_path, caplog):
    save_figure(draw_labels(["猫", "\N{UNICORN FACE} 猫", "cat"]), tmp_path / "f.svg", tmp_path / "f.png")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "f.png: the font has no sign for" in line and line.count("猫") == 1 and "\N{UNICORN FACE}" in line
    assert "猫" in svg_texts(tmp_path / "f.svg")


def test_other_warnings_are_not_swallowed(tmp_path):
    def savefig(path, **_):
        path.write_bytes(b"drawn")
        warnings.warn("something else", stacklevel=1)

    with pytest.warns(UserWarning, match="something else"):
        save_figure(SimpleNamespace(savefig=savefig), tmp_path / "f.png")


def test_layers_that_begin_with_an_underscore_stand_in_the_legend(tmp_path):
    """EfficientNet-PyTorch calls its layers _conv_stem, _blocks.0 ..."""
    lines = [
        {"probe": "p", "model": "m", "layer": layer, "kind": "gaussian", "std": 0.1, "fraction": fraction, "units": 9}
        | {"manipulated": 0.5, "low": 0.3, "high": 0.7, "null_churn": 0.1, "published": ""}
        for layer in ("_conv_stem", "_blocks.0", "head")
        for fraction in (0.5, 1.0)
    ]
    save_figure(plot_by_fraction(pd.DataFrame(lines)), tmp_path / "f.svg")
    texts = [text.strip() for text in svg_texts(tmp_path / "f.svg")]
    assert {"_conv_stem (n=9)", "_blocks.0 (n=9)", "head (n=9)"} <= set(texts)


def test_the_example_of_a_unit_names_its_concepts(tmp_path):
    curve = pd.DataFrame({"eps": [0, 2, 6], "source_iou": [0.3, 0.2, 0.1], "iou": [0.0, 0.1, 0.3]})
    with style.context(STYLE):
        figure = Figure(layout="constrained")
        draw_iou(figure.subplots(), curve.assign(label=["$a$", "$b^$", "_c $"]), "$$")
    save_figure(figure, tmp_path / "f.svg", tmp_path / "f.png")
    assert {"before: $$", "after: _c $", "$a$", "$b^$"} <= set(svg_texts(tmp_path / "f.svg"))


class Scripts(HTMLParser):
    """Tags of a page, and what stands in its scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.data = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.data += data


def test_data_of_the_page_may_stand_in_a_script(tmp_path):
    save_data(tmp_path, "units", {"label": ALL}, "a/b&c")
    text = (tmp_path / "units.js").read_text(encoding="ascii")
    assert read_script(text) == {"label": ALL}
    page = Scripts(f"<script>{text}</script><p>")
    assert page.tags == ["script", "p"] and page.data == text
    assert json.loads(text[text.index("(") + 1 : text.index(",")]) == "a/b&c/units"


def test_every_format_of_a_table_at_once(tmp_path):
    write_table(dissection(ALL), tmp_path / "t", note="cat & dog")
    assert read_table(tmp_path / "t.csv")["label"].tolist() == ALL
    assert len(read_markdown((tmp_path / "t.md").read_text(encoding="utf-8"))[1]) == len(ALL)
    assert len(read_latex((tmp_path / "t.tex").read_text(encoding="utf-8"))) == len(ALL)


def test_concepts_of_a_probe_keep_their_names(tmp_path, prepare):
    """From label.csv to concepts.csv and to the names that a dissection writes."""
    root = write_broden(tmp_path / "broden", tiny_rows())
    texts = ["$x$ & _y_", " a,b|c ", "</script>", "قطة", "猫\N{CAT FACE}", "007", '"q"', "=1", "two\nlines", "old\rMac"]
    names = dict(zip(CONCEPTS, texts, strict=False))
    write_rows(root / "label.csv", [{"number": n, "name": names.get(n, "x")} for n in CONCEPTS])
    found = prepare(root).concepts.names
    assert {number: found[number] for number in names} == names


def export(probe: Path, target: Path, changed: np.ndarray):
    """Export a Broden folder, its second image changed to `changed` (3, H, W)."""
    rows = [row.image for row in read_broden(probe).rows]
    poison = SimpleNamespace(
        shared=False,
        tasks=[SimpleNamespace(unit=3, target=0)],
        image=np.array([1]),
        rows_of=lambda index: np.array([0]),
        stored=lambda row, clean, storage: changed[None],
    )
    stored = SimpleNamespace(names=rows, images=lambda first, last: None)
    export_poison(poison, stored, probe, target, "lossless")
    return target / "unit-3"


def test_an_exported_probe_can_be_exported_again(tmp_path, prepare):
    """The index is one that Excel saved (with a byte order mark); the folder's name has signs of its own."""
    root = write_broden(tmp_path / "it's $x$ & {so} قطة", tiny_rows())
    index = root / "index.csv"
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())
    before = prepare(root).probe
    first = export(root, tmp_path / "first", np.full((3, 32, 32), 1, np.uint8))
    second = export(first, tmp_path / "second", np.full((3, 32, 32), 2, np.uint8))
    for folder, value in ((first, 1), (second, 2)):
        probe = prepare(folder).probe
        assert (probe.images(1, 2) == value).all()
        others = [number for number in range(probe.count) if number != 1]
        np.testing.assert_array_equal(probe.take_images(others), before.take_images(others))
        np.testing.assert_array_equal(probe.labels(0, probe.count), before.labels(0, probe.count))
