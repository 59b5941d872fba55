"""`openbell schema`"""

from __future__ import annotations

import json

from openbell.cli.command import Terminal, command


@command()
def schema(terminal: Terminal) -> None:
    """Print the JSON schema of desk.toml, for editors and other tools."""
    from openbell.config.models import DeskFile

    document = DeskFile.model_json_schema()
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    document["title"] = "Openbell desk file"
    terminal.show(document, json.dumps(document, indent=2))
