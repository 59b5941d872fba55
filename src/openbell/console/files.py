"""The files of the page, and the headers that keep a browser to them.

The page puts names, reasons and venues' words on the screen that anybody may have written. It makes
no markup of them (`page/dom.js`); and were it to, the policy below keeps the browser from running it:
no script but the page's own files, nothing from or to another host, no framing, no text as markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ADDRESS = "/console"
"""Where the page is served."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # No text becomes markup or script, whichever function it is given to.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # A page of an older version must not act on a desk of a newer one.
    "Cache-Control": "no-store",
}

_FOLDER = Path(__file__).parent / "page"
_INDEX = "index.html"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    body: bytes
    media_type: str


def page_files() -> dict[str, PageFile]:
    """By the path under which each is served. Read as a whole: what is not in it is not served, and
    no request names a file of the disk."""
    found = {}
    for file in sorted(_FOLDER.iterdir()):
        if kind := _KINDS.get(file.suffix):
            path = ADDRESS if file.name == _INDEX else f"{ADDRESS}/{file.name}"
            found[path] = PageFile(file.read_bytes(), kind)
    return found
