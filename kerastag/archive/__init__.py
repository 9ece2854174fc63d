"""Archives: the tags, events and embeddings of a million recordings as Parquet, on one machine or on a cluster.

Public names are imported when they are first used, since pyarrow is needed only here.
"""

from kerastag._lazy import attach

_NAMES_OF_MODULE = {
    "archive": ("write_archive",),
    "listing": ("list_inputs",),
    "settings": ("ArchiveSettings",),
    "tables": ("FORMAT", "TABLES", "get_schema", "list_parts"),
}

__getattr__, __dir__, __all__ = attach(__name__, _NAMES_OF_MODULE)
