"""A process that supervises, so that a test can kill it: FOLDER SERVICES-AS-JSON [DIE-AT].

Starts every service and prints `up` when all are ready. With DIE-AT = `spawn` it kills itself
between the spawn of the first service and its record; with `replacing` it replaces every service,
again and again, until it is killed; with `stopping` it stops every service, and says `stopping` once
each has had its signal.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from openbell.config.layout import DeskLayout
from openbell.config.models import Desk, DeskFile, LoadedDesk, Logs
from openbell.config.services import Service
from openbell.runtime.plan import build_specs
from openbell.runtime.run import Run
from openbell.runtime.spec import StopResult
from openbell.runtime.supervisor import Supervisor


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_stops: list[asyncio.Task[StopResult]] = []


async def well(_port: int | None) -> str:
    return ""


async def main(folder: Path, services: dict[str, object], die_at: str) -> None:
    if die_at == "spawn":
        Run.settle = die
    models = {name: Service.model_validate(keys, strict=False) for name, keys in services.items()}
    file = DeskFile(desk=Desk(name="test"), services=models)
    layout = DeskLayout.for_desk(folder, {})
    desk = LoadedDesk(file=file, path=folder / "desk.toml", digest="")
    supervisor = Supervisor(
        layout,
        build_specs(desk, layout, dict(os.environ), {}),
        logs=Logs(),
        on_event=lambda _: None,
    )
    await supervisor.adopt()
    results = await asyncio.gather(*(supervisor.start(name) for name in services))
    print("up" if all(result.ready for result in results) else results, flush=True)
    while die_at == "replacing":
        await asyncio.gather(*(supervisor.replace(name, well) for name in services))
    if die_at == "stopping":
        _stops.extend(
            asyncio.create_task(supervisor.stop(name, reason="test")) for name in services
        )
        while any(supervisor.view(name).state != "stopping" for name in services):
            await asyncio.sleep(0.001)
        print("stopping", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]))
