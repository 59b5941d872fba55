"""The last line of a service's `main`.

With `--trial` what a start would load is loaded, and that is all (docs/how-to/rolling-restart.md).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

from openbell.config.services import TRIAL_FLAG
from openbell.errors import OpenbellError
from openbell.service.app import ServiceApp
from openbell.service.context import ServiceContext
from openbell.service.logging import alert


def launch(
    name: str, build: Callable[[ServiceApp, ServiceContext], object], *, version: str
) -> int:
    """Run the service that `build` declares on the app. Returns its exit status; an error in the
    environment or in desk.toml is one alert line, not a stack trace."""
    collect_garbage()
    app = ServiceApp(name, version=version)
    try:
        build(app, ServiceContext.from_environment())
    except OpenbellError as error:
        alert(error.message, critical=True, hint=error.hint)
        return error.exit_code
    return app.try_out() if is_trial() else app.run()


def is_trial() -> bool:
    return TRIAL_FLAG in sys.argv[1:]


def collect_garbage() -> None:
    """From now on, where loading went without; and what was loaded lives for good, so that no collection
    walks it."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
