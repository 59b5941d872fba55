"""ccxt, which loads an exchange when it is first asked for.

Imported plainly it loads all of its hundred exchanges, three times: to be called at once, to be awaited
and to push. That is seconds of work and a hundred megabytes in each process of a desk that trades at one
of them, an emergency stop included. So it is imported here and nowhere else, and what it would load at
once is loaded when somebody names it. Nothing of it is changed: what is put off is what stands between
`import ccxt` and the first use of a class.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

import openbell.http_library  # noqa: F401  (ccxt imports aiohttp)

_PACKAGES = ("ccxt", "ccxt.async_support", "ccxt.pro")
_AN_EXCHANGE = re.compile(r"^from ccxt(?:\.async_support|\.pro)?\.(\w+) import \1\b.*$", re.M)
"""A line by which such a package loads an exchange: a module that is called as its one class is."""


class _Package(ModuleType):
    """One of them. Its `exchanges` are their names."""

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("exchanges", ()):
            importlib.import_module(f"{self.__name__}.{name}")
            return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        # A module that was loaded is put into its package. Here that is where its class belongs.
        if isinstance(value, ModuleType) and name in self.__dict__.get("exchanges", ()):
            value = getattr(value, name)
        super().__setattr__(name, value)


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _Package
        source = _AN_EXCHANGE.sub("", self.get_source(module.__name__) or "")
        exec(compile(source, self.path, "exec"), module.__dict__)  # noqa: S102


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _PACKAGES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


if "ccxt" in sys.modules:
    import ccxt.pro  # noqa: TID251
else:
    sys.meta_path.insert(0, _Finder)
    try:
        import ccxt.pro  # noqa: TID251
    finally:
        sys.meta_path.remove(_Finder)

__all__ = ["ccxt"]
