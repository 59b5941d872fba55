"""Opening the desk, as data: its steps in the order in which they are taken.

preflight             is there a reason not to: market hours, disk, clocks, network, what it depends on
start_guard           the guard, before anything that could send an order
start_infrastructure  what the others need: stores, brokers, simulated venues
start_core            limits and breakers, the engine, market data
start_services        strategies, agents, everything else
start_console         what people look at
check_venues          the engine has met its venues
check_market_data     their feeds quote
validate              the desk as a whole is well and as declared
check_readiness       accounts, limits, rules, books that agree
begin_trading         the desk trades, or is what it was asked to be
"""

from __future__ import annotations

from openbell.procedures import begin_trading, opening, preflighting, readiness, starting_guard
from openbell.procedures.declared import Parameter, Procedure

PROCEDURE = Procedure(
    name="open",
    title="Start-up",
    version=3,
    purpose="Opens the desk: its services phase by phase, then leave to trade. What runs is left as it "
    "is, so opening again does what is left to do, from the phase that failed on.",
    command="openbell up",
    steps=(
        preflighting.SPEC,
        starting_guard.SPEC,
        *opening.SPECS.values(),
        *readiness.SPECS,
        begin_trading.SPEC,
    ),
    parameters=(
        Parameter(name="safe_mode", kind="yes or no", help="everything up, no automatic trading"),
        Parameter(name="only", kind="names", help="only these services, and what they need"),
        Parameter(
            name="force",
            kind="yes or no",
            help="end processes of an earlier run first; open in spite of what a pre-flight refuses",
        ),
    ),
    resumed_by="`openbell up`, asking for the same",
    not_by_itself="it leads to trading, which only a person asks for",
    aliases=("up", "start", "startup", "start-up", "opening"),
)
