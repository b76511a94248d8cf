"""minibroden: a probing dataset in Broden's layout that the workflow draws itself.

The catalogue (catalogue.yaml) describes objects made of parts, textures, materials, scenes and
colours; a small interpreter draws them with exact masks and writes a Broden folder.
"""

from nemesis.probes.minibroden.write import contact_sheet, drawing_seed, make_minibroden

__all__ = ["contact_sheet", "drawing_seed", "make_minibroden"]
