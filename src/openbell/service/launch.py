"""The last line of a service's `main`."""

from __future__ import annotations

from collections.abc import Callable

from openbell.errors import OpenbellError
from openbell.service.app import ServiceApp
from openbell.service.context import ServiceContext
from openbell.service.logging import alert


def launch(
    name: str, build: Callable[[ServiceApp, ServiceContext], object], *, version: str
) -> int:
    """Run the service that `build` declares on the app. Returns its exit status; an error in the
    environment or in desk.toml is one alert line, not a stack trace."""
    app = ServiceApp(name, version=version)
    try:
        build(app, ServiceContext.from_environment())
    except OpenbellError as error:
        alert(error.message, critical=True, hint=error.hint)
        return error.exit_code
    return app.run()
