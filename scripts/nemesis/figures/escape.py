"""Names as they stand in a format: one function each for Markdown, LaTeX, figures and legends.

Names come from other people's datasets and networks, so any character may be in them. CSV, JSON and HTML are
escaped by the libraries that write them.
"""

import re
import unicodedata

LONGEST = 48  # characters of a name in a figure
UNKNOWN = "\ufffd"
MARKDOWN = re.compile(r"[\\`*<&|$~]|(?<![^\W_])_|_(?![^\W_])|(?<=\])\(")  # an underscore inside a word means nothing
ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
LATEX = {mark: f"\\{mark}" for mark in "&%$#_{}"}
LATEX |= {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "|": "\\textbar{}"}
LATEX |= {"<": "\\textless{}", ">": "\\textgreater{}", "`": "\\textasciigrave{}"}
LATEX_REST = {"-": "-{}", "[": "{[}", "*": "{*}"}  # only where they would mean something
LATEX_MARK = re.compile("|".join(map(re.escape, LATEX)) + r"|-(?=-)|^[\[*]")
PLAIN = "–—‘’“”…"  # beyond Latin letters, and yet in every TeX


def one_line(text: str) -> str:
    """Line breaks, tabs and runs of blanks as one blank; other control characters as a sign for the unknown."""
    return "".join(UNKNOWN if unicodedata.category(mark) in ("Cc", "Cs") else mark for mark in " ".join(text.split()))


def to_markdown_text(text: str) -> str:
    """Text that a Markdown table shows as it is."""
    return MARKDOWN.sub(lambda found: f"\\{found[0]}", one_line(text))


def from_markdown_text(text: str) -> str:
    """What `to_markdown_text` was given."""
    return ESCAPED.sub(r"\1", text)


def to_latex_text(text: str) -> str:
    """Text that LaTeX sets as it is, in any font encoding; two hyphens stay two."""
    return LATEX_MARK.sub(lambda found: (LATEX | LATEX_REST)[found[0]], one_line(text))


def needs_unicode(text: str) -> bool:
    """Does text have signs that pdfLaTeX does not know?"""
    return any(ord(mark) > 0x24F and mark not in PLAIN for mark in text)


def to_figure_text(text: str, longest: int = LONGEST) -> str:
    """A name in a figure: one line of at most `longest` characters. The style switches mathematics ($) off."""
    text = one_line(text)
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def to_legend_text(text: str) -> str:
    """A name in a legend: matplotlib leaves out those that begin with an underscore."""
    return f" {text}" if text.startswith("_") else text
