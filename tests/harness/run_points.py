"""Points of a run at which a test has it stop, to kill there whoever carries it or follows it.

Between two steps lie a thousandth of a second, and many a step is over before anybody has looked. So a
controller of a test desk is started with `tests/harness/points` in its PYTHONPATH, and waits where it is
told to, with its event loop going on: its guard sees nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

INSIDE = ("begun", "planned", "acted", "verified")
"""Inside a step: written down as begun and nothing looked at; looked at and nothing done; done and not
asked about; asked about and not written down."""
AFTER = "after"
"""Written down as done, and the next one not begun."""
MEANS = Path(__file__).parent / "points"


@dataclass(frozen=True)
class RunPoints:
    """The points of one desk's runs."""

    folder: Path

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """With which a controller, or whatever starts one, is to be started."""
        self.folder.mkdir(exist_ok=True)
        before = environ.get("PYTHONPATH")
        path = f"{MEANS}:{before}" if before else str(MEANS)
        return {**environ, "PYTHONPATH": path, "POINTS_OF_RUNS": str(self.folder)}

    def stop_at(self, step: str, point: str) -> None:
        self.go_on()
        wanted = self.folder / "stop-at"
        written = wanted.with_suffix(".new")
        written.write_text(json.dumps({"step": step, "point": point}))
        written.rename(wanted)

    @property
    def is_there(self) -> bool:
        """It waits at the point."""
        return (self.folder / "stopped").exists()

    def go_on(self) -> None:
        """Nobody waits any more, nor will anybody."""
        for name in ("stop-at", "stopped"):
            (self.folder / name).unlink(missing_ok=True)
