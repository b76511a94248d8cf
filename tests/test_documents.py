"""README and docs: links lead somewhere, the README stays short, and what is listed is what the plan has."""

import re
from pathlib import Path

import pytest

from nemesis.figures.catalogue import ENTRIES
from nemesis.plan import paths

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))
# Parts of paths, and folders that hold artifacts.
FOLDERS = {"RESULTS", "PAIR", "LAYER", "CLEAN", "NOISE", "DESIGNED", "DESIGN", "RUN", "EXEMPLAR_DESIGN"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def list_anchors(text: str) -> set[str]:
    """The addresses that GitHub gives to headings."""
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    titles = re.findall(r"^#+ (.+)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", read(name), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), target
        if anchor:
            assert anchor in list_anchors(path.read_text(encoding="utf-8")), target


def test_the_readme_is_short():
    text = read("README.md")
    assert len(text.split()) < 1300
    assert max(map(len, text.splitlines())) < 120


def list_artifacts() -> dict[str, str]:
    """The rules of each path in the tables of docs/artifacts.md."""
    rows = re.findall(r"^\| `([^`]+)` \|[^\n]*?\| ([^|\n]*) \| ?[^|\n]* ?\|$", read("docs/artifacts.md"), re.M)
    return dict(rows)


def test_every_artifact_of_the_plan_is_listed():
    patterns = {name: value for name, value in vars(paths).items() if name.isupper() and isinstance(value, str)}
    planned = {
        value.removeprefix("results/").removesuffix("/zarr.json")
        for name, value in patterns.items()
        if name not in FOLDERS
    }
    listed = set(list_artifacts())
    # An attack on descriptions names its corruption in full.
    filled = {path.replace("{corruption}", paths.EXEMPLAR_DESIGN) for path in planned}
    assert planned - listed == set()
    assert listed - planned - filled == set()


def test_every_rule_makes_something_that_is_listed():
    rules = set(
        re.findall(r"^rule (\w+):", "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk")), re.M)
    )
    named = {rule for cell in list_artifacts().values() for rule in re.findall(r"`(\w+)`", cell)}
    assert named == rules


def test_every_table_and_figure_is_listed():
    text = read("docs/artifacts.md").partition("| name | table, figure or both |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", text)) == {entry.name for entry in ENTRIES}


def test_files_that_contributors_are_sent_to_are_there():
    text = read("docs/contributing.md").partition("## Where to add what")[2].partition("\n## ")[0]
    named = re.findall(r"`([\w/]+\.(?:py|yaml|csv)|Snakefile|report/\w+)`", text)
    assert len(named) > 10
    assert [
        name for name in named if not any((root / name).exists() for root in (ROOT, ROOT / "scripts/nemesis"))
    ] == []
