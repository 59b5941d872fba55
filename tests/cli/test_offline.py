"""The command line where nothing runs: wrong use, checks, a new desk, exit codes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.command import run_here
from tests.harness.paper_desk import REPOSITORY
from tests.harness.ports import free_ports

from openbell.cli.commands.init import TEMPLATE_PORTS, rendered, with_standby
from openbell.cli.main import COMMANDS
from openbell.config.loader import load_desk


def openbell(*arguments: str, folder: Path) -> tuple[int, str, str]:
    return run_here(*arguments, folder=folder)


def document(*arguments: str, folder: Path, expect: int) -> Any:
    status, out, err = openbell(*arguments, "--json", folder=folder)
    assert status == expect, out + err
    assert len(out.strip().splitlines()) == 1, f"not one document: {out!r}"
    return json.loads(out)


@pytest.fixture
def new_desk(tmp_path: Path) -> Iterator[Path]:
    """One at a time on this machine: its ports are those that were free as it was made, and one of
    these tests takes some."""
    with (Path(tempfile.gettempdir()) / "openbell-tests-new-desk.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        document("init", "mine", folder=tmp_path, expect=0)
        yield tmp_path / "mine"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_json(name: str, tmp_path: Path) -> None:
    status, out, _ = openbell(name, "--help", folder=tmp_path)
    assert status == 0
    assert "--json" in out or "Commands:" in out


@pytest.mark.parametrize(
    ("content", "mode", "status", "said"),
    [(b"A=b\n", 0o644, 6, "chmod 600"), (b"A=\xff\n", 0o600, 4, "not UTF-8")],
)
def test_up_ends_with_the_status_of_what_kept_the_controller_from_starting(
    new_desk: Path, content: bytes, mode: int, status: int, said: str
) -> None:
    """It was 1 for everything, and a traceback for a file that is no text. What earlier controllers had
    logged is not told with it."""
    file = new_desk / "state" / "credentials.env"
    file.parent.mkdir(mode=0o700)
    file.write_bytes(content)
    file.chmod(mode)
    log = new_desk / "state" / "logs" / "controller.log"
    log.parent.mkdir()
    log.write_text("of yesterday\n" * 3)
    told = document("up", "--desk", str(new_desk), folder=new_desk, expect=status)
    assert said in told["hint"]
    assert "Traceback" not in told["hint"]
    assert str(log) in told["hint"] and "of yesterday" not in told["hint"]


def test_a_process_of_its_own_ends_and_says_the_same(tmp_path: Path) -> None:
    """All else of this file is asked inside this process."""
    for wrong in (["statsu", "--json"], ["status", "--json"], ["status"]):
        command = [sys.executable, "-m", "openbell", *wrong]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        told = (done.returncode, done.stdout, done.stderr)
        assert told == openbell(*wrong, folder=tmp_path)
        assert told[0] == 2


def test_a_mistyped_command_names_the_nearest(tmp_path: Path) -> None:
    told = document("statsu", folder=tmp_path, expect=2)
    assert "status" in told["message"]


def test_no_desk_says_how_to_name_or_make_one(tmp_path: Path) -> None:
    assert "openbell init" in document("status", folder=tmp_path, expect=2)["hint"]


def test_a_new_desk_passes_check(new_desk: Path) -> None:
    assert document("check", folder=new_desk, expect=0)["ok"]


def test_a_new_desk_can_have_a_standby(new_desk: Path) -> None:
    document("init", "paired", "--standby", folder=new_desk.parent, expect=0)
    paired = new_desk.parent / "paired"
    assert document("check", folder=paired, expect=0)["ok"]
    pair = ("execution-engine", "execution-engine-standby")
    assert load_desk(paired).file.engine_pair() == pair
    assert load_desk(new_desk).file.engine_pair() is None


def test_the_standby_of_the_template_is_its_comment_and_nothing_else_changes() -> None:
    """Nor does it say above a table that is one how to make it one."""
    plain, paired = (
        rendered("desk.toml", "mine", 0).splitlines(),
        with_standby(rendered("desk.toml", "mine", 0)).splitlines(),
    )
    at = paired.index("[services.execution-engine-standby]")
    size = paired.index("", at) - at
    assert size > 10
    comment = [f"# {line}" for line in paired[at : at + size]]
    there = plain.index(comment[0])
    assert plain[there : there + size] == comment
    assert plain[there + size :] == paired[at + size :]
    above = plain[: there - 3]
    assert paired[: at - 1] == above
    assert paired[at - 1] == "# a pause (docs/reference/standby.md)."
    assert "remove the" in plain[there - 3] and "--standby" in plain[there - 2]


def test_a_restart_of_a_service_takes_yes_and_says_which_command_takes_the_rest(
    new_desk: Path,
) -> None:
    told = document("restart", "market-data", "--yes", folder=new_desk, expect=3)
    assert told["error"] == "not_running"
    told = document("restart", "market-data", "--plan", "--reason", "r", folder=new_desk, expect=2)
    assert told["hint"] == "`openbell restart --rolling market-data --plan --reason WHY`"


def test_two_desks_of_the_template_share_no_port() -> None:
    one, other = (
        set(re.findall(r"port = (\d+)", rendered("desk.toml", "mine", shift))) for shift in (0, 100)
    )
    assert len(one) == len(other) == len(TEMPLATE_PORTS) and not one & other


def test_init_overwrites_nothing(new_desk: Path) -> None:
    before = (new_desk / "desk.toml").read_text()
    told = document("init", "mine", folder=new_desk.parent, expect=5)
    assert "desk.toml" in told["message"]
    assert (new_desk / "desk.toml").read_text() == before


def test_a_closed_desk_is_offline_and_not_healthy(new_desk: Path) -> None:
    status = document("status", folder=new_desk, expect=0)
    assert status["state"] == "offline"
    assert {s["state"] for s in status["services"]} == {"stopped"}
    assert document("health", folder=new_desk, expect=3)["verdict"] == "not_running"
    assert document("orders", folder=new_desk, expect=3)["error"] == "not_running"
    assert document("down", "--yes", folder=new_desk, expect=3)["error"] == "not_running"


def test_a_desk_that_was_not_closed_says_so_to_whoever_needs_a_controller(new_desk: Path) -> None:
    """It said `the desk is not running: open it with openbell up`, of one whose orders may rest."""
    target = new_desk / "state" / "target.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text('{"target": "trading"}')
    for asked in (["down", "--plan"], ["orders"], ["procedure", "plan", "close"], ["resume"]):
        told = document(*asked, folder=new_desk, expect=3)
        assert "it is meant to be trading; orders may rest" in told["message"], asked
        assert "openbell down closes it and asks the venues" in told["hint"]
        assert told["state"] == "unwatched" and told["recommendations"]
    told = document("health", folder=new_desk, expect=2)
    assert "orders may rest" in told["reasons"][0]
    desk_file = new_desk / "desk.toml"
    desk_file.write_text(desk_file.read_text() + "\nnonsense")
    told = document("orders", folder=new_desk, expect=3)
    assert "orders may rest" in told["message"] and "mend this first" in told["hint"]


def test_check_names_a_port_that_is_held_and_by_whom(new_desk: Path) -> None:
    ports = re.findall(r"^port = (\d+)$", (new_desk / "desk.toml").read_text(), flags=re.M)
    port = int(ports[-1])
    with socket.create_server(("127.0.0.1", port)):
        told = document("check", folder=new_desk, expect=4)
    (problem,) = told["problems"]
    assert str(os.getpid()) in problem["message"]
    assert problem["line"] is not None


def test_check_names_the_desk_that_holds_a_port(new_desk: Path) -> None:
    """Of a copied desk it advised to end a process of the desk that it was copied from."""
    port = int(re.findall(r"^port = (\d+)$", (new_desk / "desk.toml").read_text(), flags=re.M)[-1])
    listens = (
        f"import socket, sys; s = socket.create_server(('127.0.0.1', {port})); "
        "print('up', flush=True); sys.stdin.read()"
    )
    environ = {**os.environ, "OPENBELL_DESK": "/desks/one", "OPENBELL_MARK": "abc:web:1"}
    with subprocess.Popen(
        [sys.executable, "-c", listens], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"up\n"
        told = document("check", folder=new_desk, expect=4)
        other.communicate()
    (problem,) = told["problems"]
    assert f"port {port} is held by the desk /desks/one" in problem["message"]
    assert "openbell --desk /desks/one down" in problem["hint"]
    assert "end that process" not in problem["hint"]


def test_check_finds_a_command_and_a_variable_that_are_missing(new_desk: Path) -> None:
    with (new_desk / "desk.toml").open("a") as file:
        file.write(
            '\n[services.ghost]\ncommand = ["no-such-program"]\nsecrets = ["NO_SUCH_VARIABLE"]\n'
        )
    problems = document("check", folder=new_desk, expect=4)["problems"]
    assert {p["key"] for p in problems} == {"services.ghost.command", "services.ghost.secrets"}
    assert all(p["line"] for p in problems)


def test_check_finds_services_that_lack_a_venues_credentials(new_desk: Path) -> None:
    """The feed of a venue that quotes to known accounts only stayed down, and check said clean."""
    file = new_desk / "desk.toml"
    other = '[venues.fx]\nadapter = "oanda"\nurl = "http://127.0.0.1:1"\nsymbols = ["EUR/USD"]\n'
    file.write_text(file.read_text() + other)
    problems = document("check", folder=new_desk, expect=4)["problems"]
    assert {p["key"]: p["hint"].partition(": ")[2] for p in problems} == {
        "services.execution-engine.venues": 'venues = ["binance", "fx"]',
        "services.market-data.venues": 'venues = ["fx"]',
    }
    assert all(p["line"] for p in problems)
    text = file.read_text().replace('role = "market-data"', 'role = "market-data"\nvenues = ["fx"]')
    file.write_text(
        text.replace(
            'venues = ["binance"]\nrole = "engine"', 'venues = ["binance", "fx"]\nrole = "engine"'
        )
    )
    assert document("check", folder=new_desk, expect=0)["ok"]


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ('key_env = "K"\nsecret_env = "S"\n', True),
        ('key_env = "K"\nsecret_env = "S"\ncancel_key_env = "K"\ncancel_secret_env = "S"\n', True),
        ('key_env = "K"\nsecret_env = "S"\ncancel_key_env = "C"\ncancel_secret_env = "D"\n', False),
        ("", False),
    ],
)
@pytest.mark.parametrize("adapter", ["kraken", "ccxt", "binance"])
def test_check_warns_of_a_kraken_key_that_guard_and_engine_share(
    new_desk: Path, adapter: str, more: str, warned: bool
) -> None:
    file = new_desk / "desk.toml"
    options = 'options = { exchange = "kraken" }\n' if adapter == "ccxt" else ""
    venue = (
        f'[venues.other]\nadapter = "{adapter}"\nurl = "http://127.0.0.1:1"\n'
        f'symbols = ["BTC/USD"]\n{more}{options}'
    )
    text = file.read_text().replace(
        'venues = ["binance"]\nrole = "engine"', 'venues = ["binance", "other"]\nrole = "engine"'
    )
    file.write_text(text + venue)
    env = new_desk / ".env"
    env.write_text("K=k\nS=s\nC=c\nD=d\n")
    env.chmod(0o600)
    told = document("check", folder=new_desk, expect=0)
    assert told["ok"]
    assert [each["key"] for each in told["warnings"]] == (
        ["venues.other"] if warned and adapter != "binance" else []
    )
    assert all(each["line"] and "cancel_key_env" in each["hint"] for each in told["warnings"])


def test_check_warns_of_leave_to_trade_real_money_where_there_is_none(new_desk: Path) -> None:
    file = new_desk / "desk.toml"
    text = file.read_text()
    file.write_text(text.replace('= "simulated"\n', '= "simulated"\nallow_live = true\n', 1))
    [warning] = document("check", folder=new_desk, expect=0)["warnings"]
    assert warning["key"] == "venues.binance.allow_live" and warning["line"], warning


def between(text: str, start: str, end: str, put: str) -> str:
    before, _, rest = text.partition(start)
    assert rest, f"{start} is not in the file"
    return before + put + end + rest.partition(end)[2]


def test_the_page_on_using_another_venue_is_right_as_written(new_desk: Path) -> None:
    page = (REPOSITORY / "docs" / "how-to" / "use-a-venue.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", page, flags=re.S)
    venue, service, venues, strategy, limits, _, beside, _ = blocks
    file = new_desk / "desk.toml"
    text = original = file.read_text()
    (port,) = re.findall(r'url = "http://127.0.0.1:(\d+)"', text)
    text = between(text, "[venues.binance]", "# --- the strategies", venue)
    text = between(text, "[strategies.market_making_btc]", "# One of your own", strategy)
    text = between(text, "[risk.max_position]", "# --- the venue", limits)
    text = between(text, "[services.venue-sim]", "[services.market-data]", service)
    text = text.replace("[services.market-data]\n", f"[services.market-data]\n{venues}")
    text = text.replace('venues = ["binance"]\nrole', f"{venues}role")
    file.write_text(text.replace("7001", port))
    assert document("check", folder=new_desk, expect=0)["ok"]

    text = original.replace(
        'venues = ["binance"]\nrole = "eng', 'venues = ["binance", "futures"]\nrole = "eng'
    )
    (free,) = free_ports(1)
    file.write_text(f"{text}\n{beside.replace('7002', str(free))}")
    assert document("check", folder=new_desk, expect=0)["ok"]


def test_an_unknown_service_in_logs_names_the_nearest(new_desk: Path) -> None:
    told = document("logs", "market-dat", folder=new_desk, expect=2)
    assert "market-data" in told["hint"]


def test_a_checkpoint_that_is_none_is_refused(new_desk: Path) -> None:
    (new_desk / "bad.ckpt").write_bytes(bytes(4096))
    assert (
        document("checkpoint", "validate", "bad.ckpt", folder=new_desk, expect=8)["error"]
        == "corrupt"
    )


def test_the_schema_is_json_schema(new_desk: Path) -> None:
    assert document("schema", folder=new_desk, expect=0)["additionalProperties"] is False


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("desk.toml", "desk.toml"),
        ("my_strategies.py", "my_strategies.py"),
        ("env.example", ".env.example"),
    ],
)
def test_the_paper_desk_is_the_template(source: str, target: str) -> None:
    paper = Path(__file__).parents[2] / "desks" / "paper"
    assert (paper / target).read_text() == rendered(source, "paper", 0)
