"""`openbell schema`"""

from __future__ import annotations

import json

from openbell.cli.command import Terminal, command


@command()
def schema(terminal: Terminal) -> None:
    """Print the JSON schema of desk.toml, for editors and other tools."""
    from openbell.config.reference import schema as desk_schema

    document = desk_schema()
    terminal.show(document, json.dumps(document, indent=2))
