"""Docstrings in the layout of the site: an extension of Griffe, which zensical.toml names."""

from typing import Any

import griffe

from docs._reference import lay_out_docstring

__all__ = ["DocstringLayout"]


class DocstringLayout(griffe.Extension):
    """An extension that gives the docstring of each object the layout of the site."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = lay_out_docstring(obj.docstring.value)
