"""The report of a run as one page, `report.html`, without scripts or styles from elsewhere.

`report.html` is its template, with the style and the script beside it; `content.py` prepares what it shows.
"""

from kerastag._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, {"writing": ("write_report",)})
