"""The report's files against the CSV files and stores that they come from."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import zarr
from milan_scores import Files, scored, write_exemplars
from PIL import Image
from report_site import (
    ATTACKED,
    GAUSSIAN,
    HOSTILE,
    IMAGES,
    POISONED,
    ROOT,
    SIDE,
    design,
    make_card,
    make_probe,
    make_report,
    make_site,
    make_tables,
    read_script,
)

from nemesis.dissection.tops import TOP
from nemesis.dissection.upsample import upsample
from nemesis.figures.tables import read_markdown, to_latex, to_markdown, write_table
from nemesis.files import write_csv
from nemesis.pages.formats import EDGE, INSIDE, OUTSIDE, draw_overlay, magnify, save_data, to_columns
from nemesis.pages.settings import LayerFiles, open_report_layer
from nemesis.pages.site import write_site
from nemesis.pages.units import write_layer
from nemesis.pages.views import View


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_report(tmp_path_factory.mktemp("made"))


def read_csv(path):
    return pd.read_csv(path, keep_default_na=False)


def decode(address: str) -> np.ndarray:
    """Indices of the palette of an overlay."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def test_every_number_of_the_units_equals_its_csv(made):
    units, clean = made.read("units")["units"], read_csv(made.files.clean)
    for name in ("unit", "label", "category", "iou", "label_2", "iou_2"):
        assert units[name] == clean[name].tolist(), name
    assert units["margin"] == (clean["iou"] - clean["iou_2"]).tolist()
    assert units["threshold"] == read_csv(made.files.thresholds)["threshold"].tolist()
    churn = read_csv(made.files.null_churn)
    assert units["null_churn"] == [churn["changed"][churn["unit"] == unit].mean() for unit in clean["unit"]]


def test_every_number_of_a_corruption_equals_its_csv(made):
    settings = made.read("units")["settings"]
    assert [(one["corruption"], one["measure"], one["size"]) for one in settings] == [
        *2 * [("gaussian noise", "std", 0.1)],
        *[("pgd, untargeted, segmentation masks", "eps", eps) for eps in (2, 6)],
    ]
    noise = read_csv(made.files.noise[GAUSSIAN])
    tables = [part for _, part in noise.groupby("fraction")] + [read_csv(path) for path in made.files.designed.values()]
    for setting, table in zip(settings, tables, strict=True):
        assert set(setting["rows"]) <= set(table)
        for name, values in setting["rows"].items():
            expected = [None if value == "" and name == "target_iou" else value for value in table[name]]
            assert values == expected, name


def test_the_strongest_images_and_their_masks(made):
    maps = zarr.open_group(made.files.maps.parent, mode="r")[f"{made.place[-1]}/maps"][...].astype(np.float32)
    thresholds = read_csv(made.files.thresholds)["threshold"]
    shown = made.read("top-0-0")
    assert list(shown) == [str(unit) for unit in range(len(maps))]
    for unit, values in enumerate(maps):
        tops = shown[str(unit)]["tops"]
        order = sorted(range(IMAGES), key=lambda number: (-values[number].max(), number))
        assert [number for number, _, _ in tops] == order[:TOP]
        for number, overlay, changed in tops:
            mask = upsample(values[number], (SIDE, SIDE)) > np.float32(thresholds[unit])
            assert ((decode(overlay) != OUTSIDE) == mask).all()
            assert changed is False
            assert (made.report / "page" / "images" / "scenes" / f"{number}.jpg").stat().st_size


def test_the_strongest_images_of_an_attacked_unit(made):
    clean = zarr.open_group(made.files.maps.parent, mode="r")[f"{made.place[-1]}/maps"][...].astype(np.float32)
    poison = zarr.open_group(made.files.poison[design(6)].parent, mode="r")
    stored = zarr.open_group(made.files.poisoned_maps[design(6)].parent, mode="r")["maps"][...].astype(np.float32)
    images = zarr.open_group(made.files.probe.parent, mode="r")["images"]
    shown = made.read("top-4-0")
    assert list(shown) == [str(unit) for unit in ATTACKED]
    for unit in ATTACKED:
        rows = np.flatnonzero(poison["unit"][...] == unit)
        values = clean[unit].copy()
        values[poison["image"][...][rows]] = stored[rows]
        order = sorted(range(IMAGES), key=lambda number: (-values[number].max(), number))[:TOP]
        entry = shown[str(unit)]
        assert [number for number, _, _ in entry["tops"]] == order
        poisoned = set(poison["image"][...][rows].tolist())
        assert [changed for _, _, changed in entry["tops"]] == [number in poisoned for number in order]
        assert set(entry["beside"]) <= poisoned and len(entry["beside"]) >= min(3, POISONED)
        for row in rows:
            number = int(poison["image"][row])
            if number in entry["beside"]:
                folder = made.report / "layers" / made.address / entry["folder"]
                found = np.asarray(Image.open(folder / f"{number}.jpg"), int).transpose(2, 0, 1)
                exact = (images[number].astype(int) + poison["delta"][row]).clip(0, 255)
                assert np.abs(found.mean(axis=(1, 2)) - exact.mean(axis=(1, 2))).max() < 3  # JPEG
                assert (folder / f"{number}-difference.jpg").is_file()


def test_noise_marks_its_images_and_shows_one(made):
    half = made.read("top-1-0")
    settings = made.read("units")["settings"]
    assert settings[0]["pieces"] == [list(range(7))]
    for entry in half.values():
        changed = [number for number, _, is_changed in entry["tops"] if is_changed]
        assert entry.get("beside", []) == changed[:1]
        for number in changed[:1]:
            folder = made.report / "page" / "noisy" / "scenes" / entry["noisy"]
            assert (folder / f"{number}.jpg").is_file() and (folder / f"{number}-difference.jpg").is_file()
    assert all(changed for entry in made.read("top-2-0").values() for _, _, changed in entry["tops"])


def test_descriptions_of_a_layer_on_a_probe_without_masks(made, tmp_path):
    """Its noise and attacks are those of which there are exemplars; what they did stands in the table of scores."""
    units, counts, controls = [0, 2, 3], [5, 5, 10, 10], [0, 1, 0, 1]
    files, noisy, attack = Files(tmp_path), ("uniform", 0.25), ("pgd", 0.5, "untargeted")
    files.add((*made.place, "null"), scored(units, [1, 0.5, 0.75], replicate=0))
    files.add((*made.place, *noisy), scored(units, [0.25, 1, 0.5], fraction=1.0, seed=0))
    parts = [scored([2], [0.3], count=n, control=c, target_unit=-1) for n, c in zip(counts, controls, strict=True)]
    parts = [part.assign(target="", target_f1=np.nan, target_hit=False) for part in parts]
    files.add((*made.place, *attack, "exemplars"), pd.concat(parts))
    files.add(("scenes", "net #1", "other", "null"), scored(units, [0, 0, 0], replicate=0))
    texts = pd.DataFrame({"unit": units, "description": ["a", "NA", ""], "score": 0.0})
    write_csv(texts, tmp_path / "descriptions.csv")
    exemplars = write_exemplars(tmp_path / "n.zarr", units, 5, SIDE, fraction=3 * [1.0], seed=3 * [0])
    attacked = write_exemplars(tmp_path / "a.zarr", 4 * [2], 5, SIDE, count=counts, control=controls)
    shown = LayerFiles(
        probe=made.files.probe,
        maps=made.files.maps,
        thresholds=made.files.thresholds,
        descriptions=tmp_path / "descriptions.csv",
        scores=files.write_table(made.place[:2]),
        noise_exemplars={noisy: exemplars},
        attack_exemplars={attack: attacked},
        attack_poison={attack: made.files.poison[design(6)]},
    )
    write_layer(tmp_path / "layer", open_report_layer(shown, made.place, 0), "all", 0.04)
    data = read_script((tmp_path / "layer" / "units.js").read_text())
    assert data["units"]["unit"] == list(range(7)) and "label" not in data["units"]
    assert data["units"]["description"] == ["a", None, "NA", "", None, None, None]
    assert data["units"]["null_f1"] == [1, None, 0.5, 0.75, None, None, None]
    noise, *attacks = data["settings"]
    assert (noise["corruption"], noise["size"], noise["part"]) == ("uniform noise", 0.25, "100% of the images, draw 0")
    assert (noise["rows"]["unit"], noise["rows"]["f1"]) == (units, [0.25, 1, 0.5])
    assert noise["rows"]["redescribed"] == [True, False, True] and noise["pieces"] == [units]
    names = ["pgd, untargeted, exemplars", "noise instead of pgd, untargeted, exemplars"]
    found = [(one["corruption"], one["size"], one["part"]) for one in attacks]
    assert found == [(name, 0.5, f"at most {count} images") for name in names for count in (5, 10)]
    assert attacks[0]["rows"]["target_hit"] == [False] and attacks[0]["rows"]["target_f1"] == [None]


class Page(HTMLParser):
    """Tags and text of a page, the cells of its tables by name."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.cells, self.addresses, self.inside = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag == "td":
            self.cells.append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "td"

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def test_the_page_escapes_names_and_asks_for_nothing_elsewhere(made):
    text = (made.report / "index.html").read_text()
    assert HOSTILE not in text and text.count("&lt;script&gt;window.broken") == 3  # model, config, table
    page = Page(text)
    assert page.tags.count("script") == 2
    local = [address for address in page.addresses if not address.startswith(("#", "data:"))]
    assert local and all((made.report / address).is_file() for address in local)
    assert "http" not in re.sub(
        r"http://www\.w3\.org/2000/svg", "", text + (made.report / "page/report.js").read_text()
    )


def test_the_cells_of_a_table_are_those_of_its_markdown(made):
    results = made.report.parent
    header, rows, note = read_markdown((results / "tables" / "labels.md").read_text())
    cells = Page((made.report / "index.html").read_text()).cells
    assert cells[-len(header) :] == rows[0] and note == ""
    (line,) = pd.read_csv(results / "tables" / "labels.csv").to_dict("records")
    assert line["null_churn"] == 0.123456789 and rows[0][header.index("null_churn")] == "0.123"


def test_catalogue(made):
    found = read_script((made.report / "page" / "catalogue.js").read_text())
    assert found == {"layers": [dict(zip(("probe", "model", "layer"), made.place, strict=True))]}


def write_toy(results, views, template=ROOT / "report"):
    """A report of no units: its page."""
    make_probe(results / "probe.zarr", {})
    make_tables(results, True)
    site = make_site(results, views, {"scenes": results / "probe.zarr"}, {"net": make_card(results, {})}, template)
    write_site(site, results / "index.html", results / "page", results / "headline.txt")
    return (results / "index.html").read_text()


def test_a_run_that_has_only_another_view_gets_a_page(tmp_path):
    shutil.copytree(ROOT / "report", tmp_path / "report")
    for name, text in (
        ("toys.html.jinja2", '<section id="toys" class="view"><p data-page="{{ page }}">{{ count }}</p></section>'),
        ("toys.js", "toys();"),
    ):
        (tmp_path / "report" / "page" / name).write_text(text)

    def write(folder):
        (folder / "data.js").write_text("found();")
        return {"count": "2 < 3"}

    def tell(tables):
        return [f"Toys: {len(read_csv(tables['labels']))} found."]

    toys = View("toys", "Toys", "toys.html.jinja2", ("toys.js",), ("toys.js", "data.js"), tell, write)
    text = write_toy(tmp_path / "results", [toys], tmp_path / "report")
    page = Page(text)
    assert "<li>Toys: 1 found.</li>" in text and '<p data-page="page">2 &lt; 3</p>' in text
    assert [address for address in page.addresses if address.startswith("#")][1:] == [
        "#overview",
        "#figures",
        "#tables",
        "#toys",
    ]
    assert [address for address in page.addresses if address.endswith(".js")] == ["page/toys.js", "page/data.js"]
    files = {path.name for path in (tmp_path / "results" / "page").iterdir()}
    assert files == {"report.css", "toys.js", "data.js", "figures", "tables"}
    assert (tmp_path / "results" / "headline.txt").read_text().startswith("Toys: 1 found.\n")
    assert 'id="units"' not in text


def test_a_run_without_a_view_has_its_tables_and_figures(tmp_path):
    text = write_toy(tmp_path / "results", [])
    assert 'id="table-labels"' in text and 'id="figure-figure_2a"' in text
    assert "script" not in Page(text).tags and 'id="units"' not in text


def test_several_layers(tmp_path):
    made = make_report(tmp_path, units=70, layers=("one", "two"))
    for layer in ("one", "two"):
        data = made.read("units", f"scenes/net #1/{layer}")
        assert data["layer"] == layer and len(data["pieces"]) == 2
        assert [unit for piece in data["pieces"] for unit in piece] == list(range(70))
        assert len(made.read("top-0-1", f"scenes/net #1/{layer}")) == 6


def test_overlay():
    mask = np.zeros((64, 64), bool)
    mask[10:20, 0:30] = True
    found = decode(draw_overlay(mask))
    assert ((found == OUTSIDE) == ~mask).all()
    assert (found[10, :30] == EDGE).all() and (found[15, 1:29] == INSIDE).all()
    assert found[15, 0] == INSIDE  # the border of the picture is no edge
    assert (decode(draw_overlay(np.ones((8, 8), bool))) == INSIDE).all()
    assert (decode(draw_overlay(np.zeros((8, 8), bool))) == OUTSIDE).all()


def test_magnified_difference():
    difference = np.array([[[-6, 0, 3, 6, 60]]], np.int16)
    assert magnify(difference, 6).tolist() == [[[1, 128, 191, 255, 255]]]


def test_columns_keep_precision_and_know_what_is_absent():
    table = pd.DataFrame({"a": [0.1 + 0.2, np.nan], "b": [1, 2], "c": ["", "x"], "d": [True, False]})
    table["e"] = pd.array([True, None], "boolean")
    found = to_columns(table)
    assert found == {"a": [0.1 + 0.2, None], "b": [1, 2], "c": ["", "x"], "d": [True, False], "e": [True, None]}
    assert json.loads(json.dumps(found)) == found


def test_data_ends_no_script(tmp_path):
    save_data(tmp_path, "x", {"name": "</script>\u2028"}, "a/b")
    text = (tmp_path / "x.js").read_text()
    assert "</script>" not in text and "\u2028" not in text
    assert read_script(text) == {"name": "</script>\u2028"}
    assert text.startswith('nemesis.receive("a/b/x",')


def test_tables_for_readers_and_papers(tmp_path):
    table = pd.DataFrame({"a_b": ["x|y & 50%", "two\nlines"], "iou": [0.12345, np.nan]})
    write_table(table, [tmp_path / f"t.{ending}" for ending in ("csv", "md", "tex")], note="a note")
    assert read_markdown((tmp_path / "t.md").read_text()) == (
        ["a_b", "iou"],
        [["x|y & 50%", "0.123"], ["two lines", "-"]],
        "a note",
    )
    assert read_markdown(to_markdown(table))[1:] == ([["x|y & 50%", "0.123"], ["two lines", "-"]], "")
    text = (tmp_path / "t.tex").read_text()
    assert r"a\_b & iou \\" in text and r"x\textbar{}y \& 50\% & 0.123 \\" in text and "% a note" in text
    assert to_markdown(table[:0]).count("\n") == 2 and r"\toprule" in to_latex(table[:0])


def test_what_was_assumed_stands_on_the_page_where_there_is_any(made, tmp_path):
    plain = (made.report / "index.html").read_text()
    assert "What was assumed" not in plain
    for number, (remarks, lines) in enumerate((([], 0), (["2 images & 1 mask", HOSTILE], 4))):
        page = (make_report(tmp_path / str(number), remarks=remarks).report / "index.html").read_text()
        part = page.partition("<h3>What was assumed</h3>")[2].partition("</ul>")[0]
        assert part.count("<li>") == lines and HOSTILE not in page
        if not lines:
            assert page == plain
    assert "<li>probe <b>scenes</b>: 2 images &amp; 1 mask</li>" in part
    assert "<li>network <b>net #1</b>: 2 images &amp; 1 mask</li>" in part
