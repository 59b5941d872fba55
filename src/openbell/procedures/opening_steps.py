"""Opening the desk, as data: its steps in the order in which they are taken.

start_guard     the guard, before anything that could send an order
start_services  every service, each once what it depends on is ready
begin_trading   the desk trades, or is what it was asked to be
"""

from __future__ import annotations

from openbell.procedures import begin_trading, opening, starting_guard
from openbell.procedures.declared import Parameter, Procedure

PROCEDURE = Procedure(
    name="open",
    title="Start-up",
    version=1,
    purpose="Opens the desk: its services in dependency order, then leave to trade. What runs is left "
    "as it is, so opening again does what is left to do.",
    command="openbell up",
    steps=(starting_guard.SPEC, opening.SPEC, begin_trading.SPEC),
    parameters=(
        Parameter(name="safe_mode", kind="yes or no", help="everything up, no automatic trading"),
        Parameter(name="only", kind="names", help="only these services, and what they need"),
        Parameter(name="force", kind="yes or no", help="end processes of an earlier run first"),
    ),
    resumed_by="`openbell up`, asking for the same",
    not_by_itself="it leads to trading, which only a person asks for",
    aliases=("up", "start", "startup", "start-up", "opening"),
)
