"""Is a probe large enough for what the config asks of it?"""

import csv
import itertools
from pathlib import Path

from nemesis.entries import has_masks
from nemesis.probes.scan import scan_folder


def list_shortages(config: dict, probes) -> list[str]:
    """A line for every key that asks for more than one of these `probes` can have, or for less than an image."""
    used = {experiment["probe"] for experiment in config["experiments"]}
    lines = []
    for name in [name for name in probes if name in used]:
        most = count_most(config["probes"][name])
        if most is not None:
            found = _compare(config, name, most)
            lines += [f"{fault}, but probe {name} has {most} images; {remedy} it" for fault, remedy in found]
    return lines


def count_most(probe: dict) -> int | None:
    """The most images that a probe can have; None where that is not known before it is there, or none is.

    In Broden's layout images without a label take no part, so that there can be fewer.
    """
    if probe["kind"] == "minibroden":
        return probe["images"]
    if probe["kind"] == "folder":
        found = len(scan_folder(probe["path"]).images)
    elif probe["kind"] == "broden":
        found = _count_rows(Path(probe["path"], "index.csv"), probe.get("splits"))
    else:
        return None
    return min(found, probe.get("max_images", found)) or None


def _count_rows(path: Path, splits) -> int:
    with open(path, newline="", encoding="utf-8", errors="replace") as stream:
        rows = [row for row in csv.DictReader(stream) if any(row.values())]
    return sum(not splits or row.get("split") in splits for row in rows)


def _compare(config: dict, probe: str, most: int):
    """What does not fit a probe of at most so many images, a key each: (fault, what to do with it)."""
    if config["extraction"]["shards"] > most:
        yield f"extraction.shards: {config['extraction']['shards']} parts are wanted", "lower"
    milan = config.get("milan", {})
    described = bool(milan) and (milan["probes"] == "all" or probe in milan["probes"])
    if described and milan["exemplars"] > most:
        yield f"milan.exemplars: {milan['exemplars']} images a unit are wanted", "lower"
    places = {"noise.fractions": config.get("noise", {}).get("fractions", ())}
    places["milan.noise.fractions"] = milan.get("noise", {}).get("fractions", ()) if described else ()
    for place, fractions in places.items():
        for fraction in itertools.islice((one for one in fractions if round(one * most) == 0), 1):
            yield f"{place}: {fraction:g} of the images is none", "raise"
    if "designed" in config and has_masks(config, probe):
        share = config["designed"]["max_fraction"]
        if int(share * most + 1e-9) == 0:
            yield f"designed.max_fraction: {share:g} of the images is none", "raise"
