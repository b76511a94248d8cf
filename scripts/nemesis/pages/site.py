"""The page of a whole run: overview with tables and figures, and a browser of units. It opens from disk."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nemesis import __version__
from nemesis.figures.headline import write_headline
from nemesis.figures.tables import PLACE, read_markdown
from nemesis.files import atomic_directory, atomic_file
from nemesis.pages.pictures import save_pair, save_picture
from nemesis.pages.scripts import save_data
from nemesis.perturb.noise import add_noise, draw_seed
from nemesis.perturb.storage import store_image
from nemesis.probes.probe import Probe, open_probe
from nemesis.progress import Progress

ASSETS = ("report.css", "report.js")
CHUNK = 256  # images read at once
SPREAD = 3  # standard deviations of noise that reach black or white in a magnified difference


@dataclass(frozen=True)
class Site:
    """What a page is made of.

    `layers` are {probe, model, layer}, each with a folder in `folders` (see pages.layer); `probes` the folder of each
    probe's store by name. `tables` and `figures` are names; their files are below `results`/tables and /figures, their
    captions below `template`/captions, the page's own files below `template`/page.
    """

    layers: list[dict]
    folders: list[Path]
    probes: dict[str, Path]
    tables: list[str]
    figures: list[str]
    cards: dict[str, Path]
    config: str
    storage: str
    seed: int
    results: Path
    template: Path


def write_site(site: Site, index, folder, headline):
    """Write `index` (HTML), the `folder` beside it with all that it needs except the layers' folders, and `headline`.

    The headline is text: three sentences about what was found, and where to look.
    """
    index, folder, sentences = Path(index), Path(folder), write_headline(_read_tables(site))
    wanted = [json.loads((path / "wanted.json").read_text(encoding="utf-8")) for path in site.folders]
    with atomic_directory(folder) as partial:
        for name in ASSETS:
            shutil.copyfile(site.template / "page" / name, partial / name)
        for name, path in site.probes.items():
            mine = [part for part, place in zip(wanted, site.layers, strict=True) if place["probe"] == name]
            _save_pictures(partial, name, open_probe(path), mine, site)
        figures = [_copy_figure(site, name, partial) for name in site.figures]
        tables = [_copy_table(site, name, partial) for name in site.tables]
        save_data(partial, "catalogue", {"layers": [{name: place[name] for name in PLACE} for place in site.layers]})
    html = (
        _environment(site)
        .get_template("index.html.jinja2")
        .render(
            version=__version__,
            page=folder.name,
            headline=sentences,
            figures=figures,
            tables=tables,
            probes=[_describe_probe(name, open_probe(path)) for name, path in site.probes.items()],
            models=[_describe_model(name, path) for name, path in site.cards.items()],
            remarks=_list_remarks(site),
            config=site.config,
            seed=site.seed,
        )
    )
    where = f"Every table, figure and unit: {index} (opens in a browser)"
    for path, text in ((headline, "\n".join([*sentences, "", where, ""])), (index, html)):
        with atomic_file(path) as partial:
            partial.write_text(text, encoding="utf-8")


def read_caption(template: Path, name: str) -> dict[str, str]:
    """Title and caption of a table or figure: the first line (bold) and the rest of its file."""
    title, _, text = (Path(template) / "captions" / f"{name}.rst").read_text(encoding="utf-8").partition("\n")
    return {"title": title.strip("*. "), "caption": " ".join(text.split())}


def _environment(site: Site) -> Environment:
    loader = FileSystemLoader(site.template / "page")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _save_pictures(folder: Path, name: str, probe: Probe, wanted: list[dict], site: Site):
    """Every image of the probe that a layer shows, and those under noise beside their difference."""
    numbers = sorted(set().union(*(part["images"] for part in wanted)))
    target = folder / "images" / name
    target.mkdir(parents=True)
    progress = Progress(f"images of {name}", len(numbers))
    for start in range(0, len(numbers), CHUNK):
        part = numbers[start : start + CHUNK]
        for number, image in zip(part, probe.take_images(part), strict=True):
            save_picture(image, target / f"{number}.jpg")
        progress.add(len(part))
    noises = {key: noise for part in wanted for key, noise in part["noisy"].items()}
    for key, noise in noises.items():
        shown = sorted(set().union(*(part["noisy"][key]["numbers"] for part in wanted if key in part["noisy"])))
        _save_noisy(folder / "noisy" / name / key, probe, noise, shown, site)


def _save_noisy(target: Path, probe: Probe, noise: dict, numbers: list[int], site: Site):
    target.mkdir(parents=True)
    seed = draw_seed(site.seed, noise["draw"])
    for number, clean in zip(numbers, probe.take_images(numbers), strict=True):
        stored = store_image(add_noise(clean, noise["kind"], noise["std"], seed, number), site.storage)
        shown = stored if stored.dtype == "uint8" else (255 * stored).round().astype("uint8")
        save_pair(shown, shown.astype("int16") - clean, SPREAD * 255 * noise["std"], target, number)


def _copy_figure(site: Site, name: str, folder: Path) -> dict:
    """A figure of the overview; `file` is empty when there is none."""
    (folder / "figures").mkdir(exist_ok=True)
    found = ""
    for ending in ("png", "svg"):
        source = site.results / "figures" / f"{name}.{ending}"
        if source.is_file():
            found = f"figures/{source.name}"
            shutil.copyfile(source, folder / "figures" / source.name)
    return {"name": name, "file": found} | read_caption(site.template, name)


def _copy_table(site: Site, name: str, folder: Path) -> dict:
    """A table of the overview: its header and rows as readers see them, and links to its files."""
    (folder / "tables").mkdir(exist_ok=True)
    files = []
    for ending in ("csv", "md", "tex"):
        source = site.results / "tables" / f"{name}.{ending}"
        if source.is_file():
            files.append(source.name)
            shutil.copyfile(source, folder / "tables" / source.name)
    header, rows, note = read_markdown((site.results / "tables" / f"{name}.md").read_text(encoding="utf-8"))
    table = {"name": name, "files": files, "header": header, "rows": rows, "note": note}
    return table | read_caption(site.template, name)


def _read_tables(site: Site) -> dict[str, pd.DataFrame]:
    names = [name for name in ("noise", "designed", "table_1", "table_3") if name in site.tables]
    return {
        name: pd.read_csv(site.results / "tables" / f"{name}.csv", dtype=dict.fromkeys(PLACE, str)) for name in names
    }


def _describe_probe(name: str, probe: Probe) -> dict:
    height, width = probe.size
    return {"name": name, "images": probe.count, "size": f"{width} x {height} px", "categories": probe.categories}


def _describe_model(name: str, card: Path) -> dict:
    found = json.loads(Path(card).read_text(encoding="utf-8"))
    return {"name": name, "kind": found["kind"], "source": found.get("source", ""), "sha256": found.get("sha256", "")}


def _list_remarks(site: Site) -> list[dict]:
    """What was assumed of a network, and what is remarkable about a probe; old stores say neither."""
    found = [("probe", name, open_probe(path).store.attrs.get("notes", [])) for name, path in site.probes.items()]
    for name, path in site.cards.items():
        found.append(("network", name, json.loads(Path(path).read_text(encoding="utf-8")).get("assumed", [])))
    return [{"what": what, "name": name, "text": text} for what, name, texts in found for text in texts]
