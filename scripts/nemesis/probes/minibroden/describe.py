"""English noun phrases for the regions of a drawing."""

from dataclasses import dataclass

import numpy as np

from nemesis.probes.minibroden.catalogue import Catalogue
from nemesis.probes.minibroden.scenes import Drawing
from nemesis.probes.minibroden.things import pick

SMALLEST_REGION = 5  # label pixels; smaller regions are not described


@dataclass(frozen=True)
class Description:
    """A phrase for a region; box = (x0, y0, x1, y1) in label pixels, x1 and y1 exclusive."""

    category: str
    name: str
    box: tuple
    text: str


def describe_drawing(catalogue: Catalogue, drawing: Drawing, scene: bool, material: bool) -> list:
    """Descriptions of the scene, the things, their prominent parts, textures and materials."""
    canvas, rng = drawing.canvas, drawing.canvas.rng
    where = canvas.labels()
    whole = (0, 0, where.shape[1], where.shape[0])
    if drawing.texture is not None:
        look = canvas.regions[1].look
        return [Description("texture", drawing.texture, whole, _texture_phrase(look, rng, close=True))]
    result = []
    if scene and drawing.scene is not None:
        result.append(Description("scene", drawing.scene, whole, _scene_phrase(catalogue, drawing, where, rng)))
    for instance in drawing.instances:
        if instance is None:
            continue
        found = _visible(canvas, where, instance.number)
        box = _box(where, found)
        if box is None:
            continue
        result.append(Description("object", instance.name, box, _thing_phrase(catalogue, instance, rng)))
        result.extend(_describe_parts(catalogue, canvas, where, found, instance, rng))
        result.extend(_describe_looks(catalogue, canvas, where, found, instance, material))
    return result


def _visible(canvas, where, number: int) -> list:
    """The regions of one instance that can still be seen on the label plane."""
    return [
        i for i in np.flatnonzero(np.bincount(where.ravel())).tolist() if i and canvas.regions[i].instance == number
    ]


def _box(where, regions: list):
    """Box of the label pixels of some regions; None if there are too few."""
    chosen = np.zeros(int(where.max()) + 1, dtype=bool)
    chosen[regions] = True
    mask = chosen[where]
    if mask.sum() < SMALLEST_REGION:
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _describe_parts(catalogue, canvas, where, found, instance, rng):
    groups = {}
    for i in found:
        region = canvas.regions[i]
        for category, name in (("object", region.nested), ("part", region.part), ("part", region.subpart)):
            if name is not None:
                groups.setdefault((category, name), []).append(i)
    for (category, name), members in groups.items():
        box = _box(where, members)
        if box is not None:
            colour, count = instance.parts[name]
            count = 1 if name in catalogue.mass else count
            noun = plural(catalogue, name) if count > 1 else name
            owner = _owner(catalogue, instance, _adjectives(instance, rng))
            yield Description(category, name, box, _part_phrase(noun, colour, owner, count, rng))


def _describe_looks(catalogue, canvas, where, found, instance, material: bool):
    rng = canvas.rng
    for attribute in ("texture", "material"):
        groups = {}
        for i in found:
            name = getattr(canvas.regions[i].look, attribute)
            if name is not None and (attribute == "texture" or material):
                groups.setdefault(name, []).append(i)
        for name, members in groups.items():
            box = _box(where, members)
            if box is None:
                continue
            look = canvas.regions[members[0]].look
            if attribute == "texture":
                text = f"{_texture_phrase(look, rng)} on {_owner(catalogue, instance)}"
            else:
                text = _material_phrase(catalogue, name, look.colour, instance, rng)
            yield Description(attribute, name, box, text)


def _thing_phrase(catalogue, instance, rng) -> str:
    phrase = _owner(catalogue, instance, _adjectives(instance, rng))
    roll = rng.random()
    seen = [name for name in instance.parts if name != "body"]
    if seen and roll < 0.45:
        name = pick(rng, seen)
        colour, count = instance.parts[name]
        return f"{phrase} with {_some(catalogue, name, count, f'{colour} ')}"
    if roll < 0.85:
        return f"{phrase} {instance.where}"
    return phrase


def _adjectives(instance, rng) -> str:
    words = []
    if rng.random() < 0.85:
        words.append(instance.colour)
    if instance.texture is not None:
        words.append(instance.texture)
    return "".join(f"{word} " for word in words)


def _part_phrase(noun: str, colour: str, owner: str, count: int, rng) -> str:
    roll = rng.random()
    if roll < 0.4:
        return f"the {noun} of {owner}"
    if roll < 0.75:
        return f"the {colour} {noun} of {owner}"
    article = "" if count > 1 else "the "
    return f"{article}{colour} {noun} on {owner}"


def _texture_phrase(look, rng, close: bool = False) -> str:
    colours = f"{look.texture_colour} and {look.colour}"
    options = [
        f"{with_article(look.texture)} pattern in {colours}",
        f"{with_article(look.texture)} {look.colour} surface",
        f"{colours} {look.texture} texture",
    ]
    if close:
        options.append(f"a close-up of {with_article(look.texture)} texture")
    return pick(rng, options)


def _material_phrase(catalogue, material: str, colour: str, instance, rng) -> str:
    options = (
        f"{colour} {material} of {_owner(catalogue, instance)}",
        f"{material} of {_owner(catalogue, instance, f'{colour} ')}",
        f"the {material} surface of {_owner(catalogue, instance)}",
    )
    return pick(rng, options)


def _owner(catalogue, instance, adjectives: str = "") -> str:
    return _some(catalogue, instance.name, 1, adjectives)


def _scene_phrase(catalogue, drawing: Drawing, where, rng) -> str:
    canvas = drawing.canvas
    seen = {canvas.regions[i].instance for i in np.unique(where).tolist()}
    things = [item for item in drawing.instances if item is not None and item.number in seen]
    counts = {}
    for item in things:
        if not item.backdrop:
            counts[item.name] = counts.get(item.name, 0) + 1
    nouns = [_some(catalogue, name, count) for name, count in counts.items()]
    phrase = with_article(drawing.scene)
    if not nouns or rng.random() < 0.15:
        return phrase
    first = int(rng.integers(len(nouns)))
    chosen = [nouns[first]] + [nouns[(first + 1) % len(nouns)]] * (len(nouns) > 1)
    return f"{phrase} with {' and '.join(chosen)}"


def _some(catalogue, noun: str, count: int, adjectives: str = "") -> str:
    """'sand', 'red wheels' or 'a red wheel'."""
    if noun in catalogue.mass:
        return adjectives + noun
    return adjectives + plural(catalogue, noun) if count > 1 else with_article(adjectives + noun)


def with_article(noun: str) -> str:
    """'a' or 'an' before a noun phrase."""
    return f"an {noun}" if noun[0] in "aeiou" and not noun.startswith("uni") else f"a {noun}"


def plural(catalogue: Catalogue, noun: str) -> str:
    """The plural of a noun; irregular ones stand in the catalogue."""
    if noun in catalogue.plurals:
        return catalogue.plurals[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"
