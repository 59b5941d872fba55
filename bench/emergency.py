"""The emergency stop: from the press to verified zero, against the least that the venues allow.

Venues, carrier and engines are processes of their own, all on this machine's cores; what is open is
asked from the venues themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from tests.kill.house import KEY, KINDS, SECRET

from bench.measurement import Measurement
from openbell.config.layout import DeskLayout
from openbell.domain.ids import is_own
from openbell.kill.plan import floor_s
from openbell.kill.venue import SETTLE_S_MIN

ROUNDS = 5
RTT_S = 0.02
SERVICES = 10
LIMITED = "mt5"
VENUES = {"kraken": 1000, "binance-usdm": 1000, LIMITED: 100}
"""Mass cancel of the account; batches of 10, as others' orders rest beside them; singles at 50 a
second."""
OPEN = ("NEW", "PARTIALLY_FILLED")
ROOT = Path(__file__).parents[1]


def floors() -> Mapping[str, float]:
    """Of each venue, in seconds, with the settling time that every stop takes at least.

    All calls of a venue are taken to be under way at once, unless it limits how many leave in a
    second. Kraken needs one. Binance counts 2,400 a minute and limits neither connections nor what
    is under way: a hundred batches and a dozen questions are within that, and take a round trip."""
    calls = {"kraken": 1, "binance-usdm": VENUES["binance-usdm"] // 10, LIMITED: VENUES[LIMITED]}
    return {
        name: floor_s(
            count,
            rtt_s=RTT_S,
            settle_s=SETTLE_S_MIN,
            cancels_per_s=50 if name == LIMITED else None,
        )
        for name, count in calls.items()
    }


def run() -> list[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        plain = [_stop(Path(folder) / f"plain-{n}", hang="") for n in range(ROUNDS)]
        hung = [_stop(Path(folder) / f"hung-{n}", hang=LIMITED) for n in range(ROUNDS)]
        alone = [_alone(Path(folder) / f"alone-{n}") for n in range(ROUNDS)]
    return [*_against_floors(plain), *_hanging(plain, hung), _alone_row(alone)]


def _against_floors(stops: list[Stop]) -> list[Measurement]:
    found: list[Measurement] = []
    busy = _busy(stops)
    for name, floor in floors().items():
        took = statistics.median(stop.took_s[name] for stop in stops)
        each = ", ".join(f"{stop.took_s[name]:.2f}" for stop in stops)
        found.append(
            Measurement(
                f"{name}, {VENUES[name]:,} orders: press to verified zero / floor",
                took / floor,
                "x",
                bound=1.3,
                method=f"median {took:.3f} s of {ROUNDS} ({each}) against a floor of {floor:.3f} s: list, "
                f"cancels, two empty lists {SETTLE_S_MIN:g} s apart, at 20 ms a round trip; from the word to "
                "a carrier with warm connections, the freeze of the engine included; the desk's "
                f"{SERVICES} services are processes that only sleep",
                limited_by=busy,
            )
        )
        if name != LIMITED:
            found.append(
                Measurement(
                    f"{name}: press to verified zero", took, "s", bound=1.0, limited_by=busy
                )
            )
    return found


def _busy(stops: list[Stop]) -> str:
    """What the processor did meanwhile."""
    used = {name: statistics.median(stop.cpu_s[name] for stop in stops) for name in stops[0].cpu_s}
    each = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in used.items())
    return (
        f"{os.cpu_count()} cores, on which the venues are simulated too: processor time of the whole stop, "
        f"median of {len(stops)}: {each}, so {sum(used.values()) * 1000:.0f} ms. Most of it falls between "
        "the first lists and the last cancels, where the floor has two round trips. The carrier's goes to "
        "the lists (made into orders and plans), some 230 requests and their connections, and the looks at "
        "the process table for the freeze"
    )


def _hanging(plain: list[Stop], hung: list[Stop]) -> list[Measurement]:
    found = []
    for name in VENUES:
        if name == LIMITED:
            continue
        with_it = statistics.median(stop.took_s[name] for stop in hung)
        without = statistics.median(stop.took_s[name] for stop in plain)
        found.append(
            Measurement(
                f"{name}, while another venue hangs / while none does",
                with_it / without,
                "x",
                bound=1.1,
                method=f"median {with_it:.3f} s against {without:.3f} s, {ROUNDS} rounds each; the "
                "bound is ours: as fast as without it, within what rounds differ by",
                limited_by=_busy(hung),
            )
        )
    return found


def _alone_row(took: list[float]) -> Measurement:
    return Measurement(
        "the command alone: start of the process to verified zero, 1,000 orders",
        max(took),
        "s",
        bound=3.0,
        method="`openbell emergency-stop --yes` with no controller and no guard; the worst of "
        f"{ROUNDS}, median {statistics.median(took):.2f} s; a mass-cancel venue, 20 ms a round trip; "
        "no service runs, so nothing is frozen",
        limited_by="loading Python, the desk's models and the venue's client library: a second of CPU",
    )


# One stop.


@dataclass(frozen=True)
class Stop:
    took_s: dict[str, float]
    """By venue, from the press to the second empty list; the venues that were verified."""
    cpu_s: dict[str, float]
    """Processor time from the press to the end of the stop, by venue, and the carrier's."""


def _stop(folder: Path, hang: str) -> Stop:
    layout = DeskLayout.for_desk(folder, {})
    with contextlib.ExitStack() as stack:
        venues = {
            face: stack.enter_context(_venue(face, orders, layout.desk_id))
            for face, orders in VENUES.items()
        }
        urls = {face: url for face, (url, _) in venues.items()}
        _write_desk(folder, urls)
        services = stack.enter_context(_services(folder))
        carrier = stack.enter_context(
            _process("bench.emergency_carrier", str(folder), stdin=subprocess.PIPE)
        )
        assert carrier.stdin is not None
        assert _line(carrier) == "warm"
        if hang:
            _fault(urls[hang], {"kind": "hang", "hold_s": 60})
        used = {face: psutil.Process(pid) for face, (_, pid) in venues.items()}
        used["carrier"] = psutil.Process(carrier.pid)
        before = {name: _cpu_s(process) for name, process in used.items()}
        carrier.stdin.write(b"now\n")
        carrier.stdin.flush()
        told = json.loads(_line(carrier))
        cpu_s = {name: _cpu_s(process) - before[name] for name, process in used.items()}
        verified = [name for name in urls if name != hang]
        for name in verified:
            assert not _own_open(urls[name], name, layout.desk_id), f"orders are open at {name}"
        began_ns = told["began_ns"]
        took = {
            event["venue"]: (event["at_ns"] - began_ns) / 1e9
            for event in told["events"]
            if event["event"] == "venue" and event["what"] == "verified"
        }
        assert sorted(took) == sorted(verified), told["statement"]
        assert not [pid for pid in services if _is_alive(pid)], "services are left"
        return Stop(took, cpu_s)


def _alone(folder: Path) -> float:
    layout = DeskLayout.for_desk(folder, {})
    with _venue("kraken", 1000, layout.desk_id) as (url, _):
        _write_desk(folder, {"kraken": url})
        began_ns = time.time_ns()
        done = subprocess.run(
            [
                sys.executable, "-m", "openbell", "--desk", str(folder), "emergency-stop", "--yes", "--json",
            ],
            env=_environ(), stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        assert not _own_open(url, "kraken", layout.desk_id)
        course = (layout.emergency / "001.jsonl").read_text().splitlines()
        verified = next(e for e in map(json.loads, course) if e.get("what") == "verified")
        return float(verified["at_ns"] - began_ns) / 1e9


# Its parts.


def _write_desk(folder: Path, urls: Mapping[str, str]) -> None:
    folder.mkdir(parents=True)
    text = '[desk]\nname = "bench"\n'
    for face, url in urls.items():
        kind = KINDS[face]
        options = ", ".join(f'{name} = "{value}"' for name, value in kind.options.items())
        text += (
            f'[venues.{face}]\nadapter = "{face}"\nurl = "{url}"\ntimeout = "5s"\n'
            f"symbols = {json.dumps(list(kind.symbols))}\noptions = {{ {options} }}\n"
            'key_env = "BENCH_KEY"\nsecret_env = "BENCH_SECRET"\n'
        )
    text += '[services.engine]\ncommand = ["sleep", "600"]\nrole = "engine"\nport = 1\n'
    for number in range(SERVICES - 1):
        text += f'[services.s{number}]\ncommand = ["sleep", "600"]\n'
    (folder / "desk.toml").write_text(text)
    env = folder / ".env"
    env.write_text(f"BENCH_KEY={KEY}\nBENCH_SECRET={SECRET}\n")
    env.chmod(0o600)


@contextlib.contextmanager
def _services(folder: Path) -> Iterator[list[int]]:
    """All of them, spawned and recorded by a process that then lets go of them."""
    starter = (
        "import asyncio,os,sys,time\n"
        "from pathlib import Path\n"
        "from openbell.config.layout import DeskLayout\n"
        "from openbell.config.loader import load_desk\n"
        "from openbell.runtime.host import Host\n"
        "from openbell.runtime.plan import build_specs\n"
        "from openbell.runtime.run import spawn_run\n"
        "async def main():\n"
        "    folder=Path(sys.argv[1]); layout=DeskLayout.for_desk(folder,{}); layout.make()\n"
        "    host=Host.of(layout,lambda _: None)\n"
        "    specs=build_specs(load_desk(folder),layout,dict(os.environ),{})\n"
        "    runs=[spawn_run(host,spec,time.time_ns(),0,()) for spec in specs.values()]\n"
        "    await asyncio.sleep(0.2)\n"
        "    for run in runs: run.settle()\n"
        "    print(*(run.process.pid for run in runs))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", starter, str(folder)],
        env=_environ(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    pids = [int(pid) for pid in done.stdout.split()]
    try:
        yield pids
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _venue(face: str, orders: int, desk_id: str) -> Iterator[tuple[str, int]]:
    """Its address and its process."""
    foreign = "foreign" if face == "binance-usdm" else "alone"
    with _process(
        "bench.emergency_venue", face, str(orders), desk_id, str(RTT_S * 1000), foreign
    ) as process:
        while not (line := _line(process)).startswith("http"):
            pass
        yield line, process.pid


@contextlib.contextmanager
def _process(module: str, *arguments: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, env=_environ(), stdout=subprocess.PIPE, **more,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    assert line, "it ended"
    return line.strip()


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OPENBELL_")}


def _fault(url: str, fault: Mapping[str, object]) -> None:
    request = urllib.request.Request(
        f"{url}/sim/v1/control/faults",
        data=json.dumps(fault).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


def _own_open(url: str, face: str, desk_id: str) -> list[str]:
    """The desk's open orders, as the venue itself knows them."""
    with urllib.request.urlopen(f"{url}/sim/v1/orders", timeout=30) as answer:
        orders = json.load(answer)["orders"]
    names = [KINDS[face].from_the_wire(o["cl_ord_id"]) for o in orders if o["status"] in OPEN]
    return [name for name in names if is_own(name, desk_id)]


def _is_alive(pid: int) -> bool:
    from openbell.runtime.processes import system_processes

    facts = system_processes().facts(pid)
    return facts is not None and facts.alive
