"""Public names of a package that are imported when they are first used, so that frameworks load only where needed."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def attach(
    package: str, modules: Mapping[str, Iterable[str]], others: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: Name of the package.
        modules: Public names by the module that defines them, whose name is relative to the package.
        others: Public names that the package defines itself.
    """
    module_of_name = {name: module for module, names in modules.items() for name in names}
    public_names = sorted([*module_of_name, *others])

    def import_name(name: str) -> Any:
        if name not in module_of_name:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{module_of_name[name]}"), name)

    return import_name, lambda: public_names, public_names
