"""The guard's part for bench.emergency: holds its venues warm, and stops the desk when told to.

    python -m bench.emergency_carrier DESK

prints `warm`, reads a line, carries out the stop, and prints its events and statement as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.config.secrets import load_secrets
from openbell.kill.emergency import EmergencyRequest, emergency_stop
from openbell.kill.loading import keep_loaded, make_ready
from openbell.venues.credentials import Credentials
from openbell.venues.registry import open_venue


async def main(folder: Path) -> None:
    layout = DeskLayout.for_desk(folder, {})
    desk = load_desk(folder)
    pairs = load_secrets(desk, layout).closing_credentials()
    venues = {
        name: open_venue(name, config, Credentials(*pairs[name]))
        for name, config in desk.file.venues.items()
    }
    for venue in venues.values():
        await venue.connect()
        await venue.open_orders()
    make_ready()
    keep_loaded()
    print("warm", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began_ns = time.time_ns()
    events: list[Mapping[str, Any]] = []
    request = EmergencyRequest(reason="bench", actor="bench", timeout_s=8.0)
    stated = await emergency_stop(layout, desk, pairs, request, warm=venues, tell=events.append)
    told = {"began_ns": began_ns, "events": events, "statement": stated.to_wire()}
    print(json.dumps(told), flush=True)
    for venue in venues.values():
        await venue.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
