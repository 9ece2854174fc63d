"""Archives: the tags, events and embeddings of a million recordings as Parquet, on one machine or on a cluster.

Public names are imported when they are first used, since pyarrow is needed only here.
"""

from kerastag._lazy import attach

_NAMES_OF_MODULE = {
    "archive": ("write_archive",),
    "embedding_index": ("EmbeddingIndex", "Match"),
    "listing": ("list_inputs",),
    "packs": ("EmbeddingPackReport", "pack_embeddings"),
    "search": ("SearchResult", "format_matches", "search_class", "search_example", "write_matches"),
    "settings": ("ArchiveSettings",),
    "tables": ("FORMAT", "TABLES", "get_schema", "list_parts"),
}

__getattr__, __dir__, __all__ = attach(__name__, _NAMES_OF_MODULE)
