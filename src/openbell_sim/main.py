"""`openbell-sim`: starts a simulated venue."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence

from openbell.errors import OpenbellError
from openbell_sim.arguments import settings
from openbell_sim.log import log
from openbell_sim.server import Settings, Venue


async def serve(given: Settings) -> None:
    """Runs a venue until SIGTERM or SIGINT."""
    venue = Venue(given)
    try:
        await venue.start()
        gc.freeze()
        gc.enable()  # which loading may have gone without
        running = asyncio.create_task(venue.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        await venue.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or that of the error (`openbell.errors`)."""
    try:
        given = settings(arguments, os.environ)
        asyncio.run(serve(given))
    except OpenbellError as error:
        log("error", "failed", **error.as_dict())
        sys.stderr.write(f"openbell-sim: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"  {error.hint}\n")
        return error.exit_code
    except OSError as error:
        log("error", "failed", message=str(error))
        sys.stderr.write(f"openbell-sim: {error}\n")
        return 1
    return 0
