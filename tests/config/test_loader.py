"""desk.toml: what is accepted, and that everything refused is located and can be mended."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path

import pytest

from openbell.config.loader import load_desk, parse_desk
from openbell.config.nearest import misspelt
from openbell.config.problems import DeskFileError, Problem
from openbell.config.references import idle_entries, unsound_entries
from openbell.errors import ConfigError

MINIMAL = """
[desk]
name = "small"

[services.engine]
command = ["engine"]
port = 8004
role = "engine"
"""


def problems_of(text: str) -> list[Problem]:
    with pytest.raises(DeskFileError) as caught:
        parse_desk(text.encode(), Path("desk.toml"))
    return list(caught.value.problems)


def test_a_minimal_desk_has_safe_defaults() -> None:
    desk = parse_desk(MINIMAL.encode(), Path("desk.toml"))
    assert desk.controller.host == "127.0.0.1"
    assert desk.permit.ttl == 10.0
    assert desk.closing.flatten == "aggressive"
    assert desk.services["engine"].stop.signal == "TERM"
    assert desk.risk.price_collar == Decimal("0.05")


def test_durations_sizes_and_amounts_are_read_with_their_units() -> None:
    desk = parse_desk(
        (
            MINIMAL
            + 'stop = { timeout = "1m30s" }\nlimits = { cpu = "150%", memory = "512M" }\n'
            + '[risk]\nmax_total_exposure = "100000.50"\nprice_collar = "2.5%"\n'
        ).encode(),
        Path("desk.toml"),
    )
    service = desk.services["engine"]
    assert service.stop.timeout == 90.0
    assert (service.limits.cpu, service.limits.memory) == (1.5, 512 << 20)
    assert desk.risk.max_total_exposure == Decimal("100000.50")
    assert desk.risk.price_collar == Decimal("0.025")


@pytest.mark.parametrize("fee", ["0.04%", "0%", "0.26%", "1%", None])
def test_a_venues_table_is_the_same_when_it_has_been_given_to_a_process(fee: str | None) -> None:
    """Whoever asks venues past the engine is given it as JSON: one that cannot be read there makes a
    closing unproven."""
    line = "" if fee is None else f'taker_fee = "{fee}"\n'
    text = (
        '[desk]\nname = "x"\n[venues.v]\nurl = "http://h:1"\nsymbols = ["BTC/USD"]\n'
        'sessions = ["mon-fri 14:30-21:00"]\ntimeout = "3s"\n[venues.v.holdings]\nBTC = "0.5"\n'
        '[services.s]\ncommand = ["true"]\n'
    ).replace('timeout = "3s"\n', f'timeout = "3s"\n{line}')
    venue = parse_desk(text.encode(), Path("desk.toml")).venues["v"]
    assert type(venue).model_validate_json(venue.model_dump_json()) == venue


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() -> None:
    (problem,) = problems_of(MINIMAL + 'redy = { kind = "tcp" }\n')
    assert problem.key == ("services", "engine", "redy")
    assert problem.line == 9
    assert "ready" in problem.hint


def test_all_problems_are_told_at_once() -> None:
    problems = problems_of(
        '[desk]\nname = "Big"\nfoo = 1\n[services.x]\nport = "80"\ncommand = ["x"]\n'
    )
    assert {(p.key, p.line) for p in problems} == {
        (("desk", "name"), 2),
        (("desk", "foo"), 3),
        (("services", "x", "port"), 5),
    }


SIMULATED = '[venues.v]\nurl = "http://127.0.0.1:1"\nsymbols = ["BTC/USDT"]\n'


@pytest.mark.parametrize(
    ("addition", "key", "said"),
    [
        ('health = { every = "5" }\n', ("services", "engine", "health", "every"), "not a duration"),
        ("health = { every = 5 }\n", ("services", "engine", "health", "every"), "with its unit"),
        ('ready = { kind = "htp" }\n', ("services", "engine", "ready"), "not known"),
        ('ready = { path = "/" }\n', ("services", "engine", "ready"), '"kind" is missing'),
        (
            'ready = { kind = "log", pattern = "(" }\n',
            ("services", "engine", "ready", "pattern"),
            "regular",
        ),
        ("[risk]\nmax_total_exposure = 1.5\n", ("risk", "max_total_exposure"), "float"),
        ('[risk]\nmax_total_exposure = "NaN"\n', ("risk", "max_total_exposure"), "finite"),
        ('[permit]\nttl = "3s"\n', ("permit",), "half of ttl"),
        ('[closing]\norders = "keep"\n', ("closing",), 'flatten = "keep"'),
        ('[venues.v]\nsymbols = ["BTC/USDT"]\n', ("venues", "v"), "needs its url"),
        (SIMULATED + 'timeout = "0s"\n', ("venues", "v", "timeout"), "greater than 0"),
        (SIMULATED + 'poll_every = "0ms"\n', ("venues", "v", "poll_every"), "greater than 0"),
        (SIMULATED + 'key_env = "K"\n', ("venues", "v"), "key_env needs its secret_env"),
        ('[guard]\nguard_silent_after = "0s"\n', ("guard", "guard_silent_after"), "greater than 0"),
    ],
)
def test_bad_values_say_what_to_write(addition: str, key: tuple[str, ...], said: str) -> None:
    (problem,) = problems_of(MINIMAL + addition)
    assert problem.key == key
    assert said in problem.message + problem.hint
    assert problem.line is not None


@pytest.mark.parametrize(
    ("addition", "key", "said"),
    [
        ('[risk]\nmax_daily_loss = "-5"\n', ("risk", "max_daily_loss"), "is no limit"),
        ('[risk]\nmax_total_exposure = "-1"\n', ("risk", "max_total_exposure"), "is no limit"),
        (
            '[risk]\nmax_notional_per_position = "-1"\n',
            ("risk", "max_notional_per_position"),
            "is no limit",
        ),
        ('[risk]\nmax_order_notional = "-1"\n', ("risk", "max_order_notional"), "is no limit"),
        ('[risk]\nprice_collar = "500%"\n', ("risk", "price_collar"), "500% is no limit"),
        ('[risk]\nstale_quote_after = "0s"\n', ("risk", "stale_quote_after"), "greater than 0"),
        (
            SIMULATED + '[risk.max_position]\n"BTC/USDT" = "-0.1"\n',
            ("risk", "max_position", "BTC/USDT"),
            "is no limit",
        ),
        (
            SIMULATED + '[risk.max_position]\n"BTC/USDTT" = "0.1"\n',
            ("risk", "max_position", "BTC/USDTT"),
            "did you mean BTC/USDT?",
        ),
        (
            SIMULATED + '[venues.v.holdings]\nBTCC = "2"\n',
            ("venues", "v", "holdings", "BTCC"),
            "did you mean BTC?",
        ),
        (
            SIMULATED + '[venues.v.holdings]\nBTC = "-2"\n',
            ("venues", "v", "holdings", "BTC"),
            "greater than or equal to 0",
        ),
        (
            'health = { every = "0s" }\n',
            ("services", "engine", "health", "every"),
            "greater than 0",
        ),
        (
            'ready = { kind = "exec", command = ["true"], every = "0s" }\n',
            ("services", "engine", "ready", "every"),
            "greater than 0",
        ),
        (
            '[procedures.close.steps.flatten]\ntimeout = "0s"\n',
            ("procedures", "close", "steps", "flatten", "timeout"),
            "greater than 0",
        ),
        (SIMULATED + 'taker_fee = "100%"\n', ("venues", "v", "taker_fee"), "less than 100%"),
    ],
)
def test_what_an_earlier_desk_file_may_hold_refuses_no_loading_and_is_named(
    addition: str, key: tuple[str, ...], said: str
) -> None:
    """A controller that was killed after an upgrade was not replaced, and `openbell down` did not take over,
    because of a limit that was none: of a desk that ran with it."""
    desk = parse_desk((MINIMAL + addition).encode(), Path("desk.toml"))
    (problem,) = unsound_entries(desk)
    assert problem.key == key
    assert said in problem.message + problem.hint


def test_a_sound_desk_has_nothing_unsound() -> None:
    assert unsound_entries(parse_desk((MINIMAL + SIMULATED).encode(), Path("desk.toml"))) == []


@pytest.mark.parametrize(
    ("declared", "limited"),
    [
        ("BTC/USDT", "LTC/USDT"),
        ("EUR/USD", "AUD/USD"),
        ("EUR/USD", "EUR/AUD"),
        ("BTC/USDT", "BTC/USD"),
        ("BTC/USDT", "ETH/USDT"),
        ("BTC/USDT", "BTC/USDC"),
        ("WOOF/USDT", "WOLF/USDT"),
    ],
)
def test_a_limit_of_another_market_is_no_slip(declared: str, limited: str) -> None:
    """WOLF is declared at another venue."""
    text = SIMULATED.replace("BTC/USDT", declared)
    text += '[venues.w]\nurl = "http://127.0.0.1:2"\nsymbols = ["WOLF/EUR"]\n'
    text += f'[risk.max_position]\n"{limited}" = "1"\n'
    desk = parse_desk((MINIMAL + text).encode(), Path("desk.toml"))
    assert unsound_entries(desk) == []
    (problem,) = idle_entries(desk)
    assert problem.key == ("risk", "max_position", limited)


def test_a_holding_of_a_currency_that_there_is_is_no_slip() -> None:
    text = SIMULATED + '[venues.v.holdings]\nUSD = "9"\nBTCC = "1"\n'
    desk = parse_desk((MINIMAL + text).encode(), Path("desk.toml"))
    assert [each.key[-1] for each in unsound_entries(desk)] == ["BTCC"]
    assert [each.key[-1] for each in idle_entries(desk)] == ["USD"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("BTC/USDTT", "BTC/USDT"), ("BTC/USD", "BTC/USDT"), ("BTX/USDT", "BTC/USDT"),
        ("BCT/USDT", "BTC/USDT"), ("XBTC/USDT", "BTC/USDT"), ("BXX/USDT", ""),
        ("CTB/USDT", ""), ("BTC/USDTXX", ""), ("BTC/USDT", ""), ("", ""),
    ],
)  # fmt: skip
def test_one_slip_is_one_letter(typed: str, meant: str) -> None:
    assert misspelt(typed, ["BTC/USDT"]) == meant


def test_limits_and_holdings_of_what_no_venue_declares_may_be_meant_and_are_told() -> None:
    """One table of limits may serve several desks; what has its own entry is not a slip."""
    text = (
        SIMULATED
        + '[venues.v.holdings]\nDOGE = "9"\n'
        + '[risk.max_position]\n"BTC/USDT" = "1"\n"BTC/USDC" = "1"\n"SOL/EUR" = "1"\n'
    )
    desk = parse_desk((MINIMAL + text).encode(), Path("desk.toml"))
    assert [(each.key[-1], each.hint) for each in idle_entries(desk)] == [
        ("BTC/USDC", "remove it, or add the symbol to its venue"),
        ("SOL/EUR", "remove it, or add the symbol to its venue"),
        ("DOGE", "it has no effect, and may be removed"),
    ]


def test_a_live_venue_must_be_allowed_in_so_many_words() -> None:
    live = """
[venues.v]
environment = "live"
symbols = ["BTC/USDT"]
key_env = "K"
secret_env = "S"
"""
    (problem,) = problems_of(MINIMAL + live)
    assert "allow_live" in problem.message
    parse_desk((MINIMAL + live + "allow_live = true\n").encode(), Path("desk.toml"))


@pytest.mark.parametrize(
    ("half", "missing"),
    [("cancel_key_env", "cancel_secret_env"), ("cancel_secret_env", "cancel_key_env")],
)
def test_half_a_closing_pair_is_refused_and_told_what_to_do(half: str, missing: str) -> None:
    venue = """
[venues.v]
environment = "practice"
symbols = ["BTC/USDT"]
key_env = "K"
secret_env = "S"
"""
    (problem,) = problems_of(f'{MINIMAL}{venue}{half} = "C"\n')
    assert f"{half} needs its {missing}" in problem.message
    assert "leave both out" in problem.message


def test_a_symbol_of_another_form_is_one_problem_with_the_form_wanted() -> None:
    """Not a second one as well, that the list is too short without it."""
    venue = '[venues.v]\nurl = "http://127.0.0.1:1"\nsymbols = ["BTCUSDT"]\n'
    (problem,) = problems_of(f"{MINIMAL}{venue}")
    assert "BTCUSDT" in problem.message and "BTC/USDT" in problem.hint
    (empty,) = problems_of(MINIMAL + venue.replace('"BTCUSDT"', ""))
    assert "at least one" in empty.hint


def test_a_circle_of_dependencies_is_shown_as_a_circle() -> None:
    text = """
[desk]
name = "d"
[services.a]
command = ["a"]
depends_on = ["b"]
[services.b]
command = ["b"]
depends_on = ["c"]
[services.c]
command = ["c"]
depends_on = ["a"]
"""
    (problem,) = problems_of(text)
    assert "wait for each other" in problem.message
    circle = problem.message.split(": ")[1].split(" needs ")
    needs = {"a": "b", "b": "c", "c": "a"}
    assert circle[0] == circle[-1]
    assert all(needs[one] == other for one, other in itertools.pairwise(circle))


def test_names_that_lead_nowhere_are_found() -> None:
    text = MINIMAL + 'depends_on = ["enigne"]\nvenues = ["binance"]\n'
    problems = problems_of(text)
    assert [p.key[-1] for p in problems] == ["depends_on", "venues"]
    assert "engine" in problems[0].hint


def test_two_services_on_one_port_are_both_named() -> None:
    (problem,) = problems_of(MINIMAL + '[services.other]\ncommand = ["x"]\nport = 8004\n')
    assert problem.key == ("services", "other", "port")
    assert "services.engine" in problem.message


def test_a_second_engine_is_refused() -> None:
    (problem,) = problems_of(MINIMAL + '[services.b]\ncommand = ["x"]\nport = 1\nrole = "engine"\n')
    assert "engine" in problem.message


def test_broken_toml_names_the_line() -> None:
    (problem,) = problems_of("[desk]\nname = \n")
    assert problem.line == 2


def test_keys_in_inline_tables_are_located_at_their_line() -> None:
    (problem,) = problems_of(MINIMAL + '\n\nstop = { timeout = "1s", sginal = "TERM" }\n')
    assert problem.line == 11


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_desk(tmp_path)
    assert "openbell init" in caught.value.hint


def test_the_same_bytes_have_the_same_digest(tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text(MINIMAL)
    assert load_desk(tmp_path).digest == load_desk(tmp_path / "desk.toml").digest


STANDBY = """
[services.standby]
command = ["engine"]
port = 8005
role = "standby"
standby_for = "engine"
"""


def test_an_engine_may_have_a_standby() -> None:
    desk = parse_desk((MINIMAL + STANDBY).encode(), Path("desk.toml"))
    assert desk.engine_pair() == ("engine", "standby")
    assert parse_desk(MINIMAL.encode(), Path("desk.toml")).engine_pair() is None


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ('standby_for = "engine"\n', "", "standby", "belong together"),
        ('standby_for = "engine"', 'standby_for = "enigne"', "standby_for", "no engine"),
        ("port = 8005\n", "", "port", "needs a port"),
        ('["engine"]\nport = 8005', '["other"]\nport = 8005', "command", "differs"),
        ("port = 8005\n", "port = 8005\ncritical = true\n", "standby", "not critical"),
    ],
)
def test_a_standby_must_be_able_to_do_the_engines_work(
    old: str, new: str, key: str, said: str
) -> None:
    assert old in STANDBY
    found = problems_of(MINIMAL + STANDBY.replace(old, new))
    assert [(p.key[-1], said in p.message) for p in found] == [(key, True)], found


def test_a_second_standby_is_refused() -> None:
    second = STANDBY.replace("services.standby", "services.third").replace("8005", "8006")
    (problem,) = problems_of(MINIMAL + STANDBY + second)
    assert problem.key == ("services", "third", "role")


RULED = """
[desk]
name = "d"
[venues.a]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[services.risk]
command = ["true"]
role = "risk"
"""


@pytest.mark.parametrize(
    ("rules", "without", "told"),
    [
        ('max_daily_loss = { amount = "5" }', 'role = "risk"', "there is none"),
        ('heartbeat_lost = { after = "5s" }', "[venues.a]", "which a desk without"),
        ('heartbeat_lost = { after = "1900ms" }', "", "at least 2s, two beats"),
        ('max_drawdown = { amount = "0" }', "", "greater than 0"),
        ('reject_rate = { share = "101%" }', "", "less than or equal to 1"),
        ('stale_market_data = { after = "5s", open_hours = { b = "mon 10:00-11:00" } }', "", "no venue"),
        ('stale_market_data = { after = "5s", open_hours = { a = "always" } }', "", "open hours"),
    ],
)  # fmt: skip
def test_a_kill_rule_that_nobody_could_judge_is_refused(
    rules: str, without: str, told: str
) -> None:
    text = RULED
    if without == "[venues.a]":
        text = RULED.partition("[venues.a]")[0] + "[services.risk]\ncommand = ['true']\n"
    elif without:
        text = text.replace(without, "")
    found = problems_of(text + f"[kill_switch.rules]\n{rules}\n")
    assert told in str(found)
