"""An HTTP server of taggers: `kerastag serve`.

It needs the extra `serve`, and `edge` or a framework that runs its models.
"""

from kerastag._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, {"config": ["ServeConfig"], "server": ["run_server"]})
