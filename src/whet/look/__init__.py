"""How pages and figures look, for every room that shows something.

css     the style sheet, light and dark
plots   inline SVG in the page's own colours
units   figures as people read them
"""

from __future__ import annotations

from importlib.resources import files


def css() -> str:
    """The style sheet that goes into each page."""
    return files(__package__).joinpath("look.css").read_text(encoding="utf-8")
