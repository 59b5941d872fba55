"""aiohttp, which reads the machine's certificates when it first needs one.

Imported plainly it makes two TLS contexts at once and has each read every certificate that the
machine trusts: a tenth of a second of work in each process of a desk, nearly all of which speak
only to neighbours on loopback, in plain HTTP. So it is imported here and nowhere else, and the
contexts it makes meanwhile read theirs before their first connection.

A context is never used with less than it would have had: what is put off is what stands between it
and its first handshake.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
import threading
from collections.abc import Iterator
from typing import Any


class _Unread(ssl.SSLContext):
    """A context that has yet to read the machine's certificates. It turns into a plain one as it
    reads them."""

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        self._read()
        return self.wrap_bio(*arguments, **options)

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        self._read()
        return self.wrap_socket(*arguments, **options)

    def cert_store_stats(self) -> dict[str, int]:
        self._read()
        return self.cert_store_stats()

    def get_ca_certs(self, *arguments: Any, **options: Any) -> Any:
        self._read()
        return self.get_ca_certs(*arguments, **options)

    def _read(self) -> None:
        # Read first: of two threads that come at once the second reads them again, and neither
        # goes on without.
        ssl.SSLContext.set_default_verify_paths(self)
        self.__class__ = ssl.SSLContext  # type: ignore[assignment]


@contextlib.contextmanager
def _certificates_put_off() -> Iterator[None]:
    """The contexts that this thread makes meanwhile have their certificates read later."""
    thread = threading.get_ident()
    now = ssl.SSLContext.set_default_verify_paths

    def later(context: ssl.SSLContext) -> None:
        if threading.get_ident() == thread and type(context) is ssl.SSLContext:
            context.__class__ = _Unread
        else:
            now(context)

    ssl.SSLContext.set_default_verify_paths = later  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        # The method is the base class's: without this attribute it is found there again.
        del ssl.SSLContext.set_default_verify_paths


if "aiohttp" in sys.modules:
    import aiohttp  # noqa: TID251
else:
    with _certificates_put_off():
        import aiohttp  # noqa: TID251

__all__ = ["aiohttp"]
