"""`openbell console`"""

from __future__ import annotations

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.errors import ConflictError, OpenbellError


@command()
@click.option("--open", "open_it", is_flag=True, help="Open it in this machine's browser.")
def console(terminal: Terminal, open_it: bool) -> int:
    """The address of the desk's page, which its controller serves.

    A person signs in there with their name and the token in the file that is named beside. Exit
    status 3 where no controller runs: then there is no page.
    """
    controller = Client(terminal.layout).get("status")["controller"]
    address = console_address(controller)
    if not address:
        raise ConflictError(
            f"the console has no address: {controller['port_problem']}",
            hint="free the port, or give [controller] another one, then restart the controller",
        )
    token = str(terminal.layout.api_token)
    terminal.show(
        {"address": address, "token_file": token}, f"{address}\n  sign in with the token in {token}"
    )
    if open_it:
        _open(address)
    return 0


def console_address(controller: dict[str, str]) -> str:
    """Empty where the controller serves no port; its socket no browser can reach."""
    from openbell.console.files import ADDRESS

    return f"{controller['url']}{ADDRESS}" if controller.get("url") else ""


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        raise OpenbellError("no browser could be started here", hint=f"open {address} in one")
