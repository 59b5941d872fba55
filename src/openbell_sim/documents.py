"""Files that people write for a venue: in TOML or JSON, told apart by what is in them."""

from __future__ import annotations

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def is_json(data: bytes) -> bool:
    """An object begins with a brace, and nothing in TOML does. An empty file is TOML."""
    return data.removeprefix(_BYTE_ORDER_MARK).lstrip().startswith(b"{")
