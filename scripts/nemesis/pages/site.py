"""The page of a whole run: overview, tables, figures, and the sections of its views. It opens from disk."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nemesis import __version__
from nemesis.figures.tables import read_markdown
from nemesis.files import atomic_directory, atomic_file
from nemesis.pages.views import View
from nemesis.probes.probe import Probe, open_probe

STYLE = "report.css"
Files = Mapping[str, Mapping[str, Path]]  # name -> ending, as .csv -> file


@dataclass(frozen=True)
class Site:
    """What a page is made of.

    `probes` are the folders of the probes' stores by name, `cards` the networks' card.json. `tables` and `figures` are
    files by name and ending; their captions are below `template`/captions, the page's own files below `template`/page.
    """

    views: Sequence[View]
    probes: Mapping[str, Path]
    cards: Mapping[str, Path]
    tables: Files
    figures: Files
    config: str
    seed: int
    template: Path


def write_site(site: Site, index, folder, headline):
    """Write `index` (HTML), the `folder` beside it with all that it needs except layers' folders, and `headline`.

    The headline is text: the views' sentences about what was found, and where to look.
    """
    index, folder = Path(index), Path(folder)
    tables = {name: files[".csv"] for name, files in site.tables.items()}
    sentences = [sentence for view in site.views for sentence in view.tell(tables)]
    environment = _environment(site)
    with atomic_directory(folder) as partial:
        for name in dict.fromkeys((STYLE, *(name for view in site.views for name in view.assets))):
            shutil.copyfile(site.template / "page" / name, partial / name)
        sections = [_make_section(environment, view, partial, folder.name) for view in site.views]
        figures = [_copy_figure(site, name, partial) for name in site.figures]
        tables = [_copy_table(site, name, partial) for name in site.tables]
    html = environment.get_template("index.html.jinja2").render(
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
        views=sections,
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


def _make_section(environment: Environment, view: View, folder: Path, page: str) -> dict:
    """Write a view's files into `folder`; its name, title, scripts, and section as HTML, for the page of that name."""
    told = view.write(folder)
    section = environment.get_template(view.template).render(page=page, **told)
    return {"name": view.name, "title": view.title, "scripts": view.scripts, "section": section}


def _copy_figure(site: Site, name: str, folder: Path) -> dict:
    """A figure of the overview; `file` is empty when there is none."""
    (folder / "figures").mkdir(exist_ok=True)
    found = ""
    for ending in (".png", ".svg"):
        source = site.figures[name].get(ending)
        if source is not None and source.is_file():
            found = f"figures/{source.name}"
            shutil.copyfile(source, folder / "figures" / source.name)
    return {"name": name, "file": found} | read_caption(site.template, name)


def _copy_table(site: Site, name: str, folder: Path) -> dict:
    """A table of the overview: its header and rows as readers see them, and links to its files."""
    (folder / "tables").mkdir(exist_ok=True)
    files = []
    for ending in (".csv", ".md", ".tex"):
        source = site.tables[name].get(ending)
        if source is not None and source.is_file():
            files.append(source.name)
            shutil.copyfile(source, folder / "tables" / source.name)
    header, rows, note = read_markdown(site.tables[name][".md"].read_text(encoding="utf-8"))
    table = {"name": name, "files": files, "header": header, "rows": rows, "note": note}
    return table | read_caption(site.template, name)


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
