"""How the site shows docstrings: an extension of Griffe, which zensical.toml names."""

import re
from typing import Any

import griffe

__all__ = ["DocstringLayout"]

_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
_TITLE = re.compile(r"^(Input shape|Output shape|Mask|Reference|Deviations): ", re.MULTILINE)


class DocstringLayout(griffe.Extension):
    """Examples as blocks of code, and paragraphs with a bold title for shapes, masks and references."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring:
            text = _EXAMPLE.sub(lambda match: f"```pycon\n{match[0]}\n```", obj.docstring.value)
            obj.docstring.value = _TITLE.sub(r"\n**\1:** ", text)
