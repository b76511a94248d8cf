"""Wider words: what a set of regions has in common when its members have different names."""

WIDER: dict[str, tuple[str, ...]] = {
    "animal": (
        *("dog", "cat", "horse", "zebra", "cow", "sheep", "elephant", "giraffe"),
        *("bird", "duck", "fish", "turtle", "jellyfish", "starfish"),
    ),
    "vehicle": ("car", "bus", "truck", "train", "bicycle", "tractor", "boat", "ship", "airplane", "balloon"),
    "building": ("house", "building", "skyscraper", "lighthouse", "barn", "windmill", "tent"),
    "plant": ("tree", "pine", "palm", "bush", "hedge", "flower", "cactus", "seaweed", "grass", "mushroom"),
    "furniture": ("chair", "table", "sofa", "bed", "bench", "cabinet", "bookcase", "lamp"),
    "appliance": ("stove", "refrigerator", "sink", "bathtub", "toilet", "television", "monitor", "laptop"),
    "dish": ("cup", "bottle", "bowl", "vase", "pan", "teapot", "cake"),
    "ground": ("floor", "road", "pavement", "field", "sand", "snow", "path", "rug"),
    "room": ("kitchen", "living room", "bedroom", "bathroom", "office"),
    "landscape": ("park", "forest", "farm", "savanna", "desert", "snowfield", "airfield"),
    "shore": ("beach", "harbour", "reef"),
    "curved": ("swirly", "spiralled", "scaly", "bubbly", "marbled"),
    "lined": ("striped", "banded", "zigzagged", "crosshatched"),
    "checked": ("chequered", "grid", "woven", "honeycombed"),
    "spotted": ("dotted", "sprinkled", "starry", "bubbly"),
    "veined": ("cracked", "cobwebbed", "marbled"),
}
"""Wider word: the names it covers. Names that no probe shows do no harm."""

WITHOUT_ARTICLE = frozenset({"furniture", "ground"})


_WIDER_OF = {
    name: tuple(word for word, names in WIDER.items() if name in names)
    for covered in WIDER.values()
    for name in covered
}


def find_wider(name: str) -> tuple[str, ...]:
    """The wider words that cover a concept's name, none for most parts and materials."""
    return _WIDER_OF.get(name, ())
