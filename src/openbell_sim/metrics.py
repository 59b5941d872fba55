"""`GET /metrics` in the Prometheus text format, from what the venue knows anyway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from openbell_sim.exchange import Exchange
from openbell_sim.faces.port import Face
from openbell_sim.faults.plan import FaultPlan

Sample = tuple[dict[str, str], float]


def render(exchange: Exchange, face: Face, faults: FaultPlan, *, played: int, lag_s: float) -> str:
    ledger = exchange.ledger
    clients, streamed = face.stream_counts()
    statuses = Counter((o.account, o.status.value) for o in ledger.orders.values())
    statuses.update((refusal.account, "REJECTED") for refusal in ledger.refused)
    fills = Counter((fill.account, fill.symbol) for fill in ledger.fills)
    parts = [
        _metric(
            "openbell_sim_orders",
            "gauge",
            "Orders that ever reached the venue, by what became of them.",
            [({"account": a, "status": s}, n) for (a, s), n in statuses.items()],
        ),
        _metric(
            "openbell_sim_open_orders",
            "gauge",
            "Orders that rest in the books.",
            [({"account": name}, len(orders)) for name, orders in ledger.open.items()],
        ),
        _metric(
            "openbell_sim_fills_total",
            "counter",
            "Fills of accounts' orders.",
            [({"account": a, "symbol": s}, n) for (a, s), n in fills.items()],
        ),
        _metric(
            "openbell_sim_replies_total",
            "counter",
            "HTTP replies of the face.",
            [
                ({"method": method, "path": path, "status": str(status)}, n)
                for (method, path, status), n in face.replies.items()
            ],
        ),
        _metric(
            "openbell_sim_stream_clients",
            "gauge",
            "WebSocket connections.",
            [({}, clients)],
        ),
        _metric(
            "openbell_sim_stream_messages_total",
            "counter",
            "WebSocket messages given to clients.",
            [({}, streamed)],
        ),
        _metric(
            "openbell_sim_fault_hits_total",
            "counter",
            "How often faults of the present plan struck.",
            [
                ({"id": str(armed.number), "kind": armed.fault.name}, armed.hits)
                for armed in faults.armed
            ],
        ),
        _metric(
            "openbell_sim_market_events_total",
            "counter",
            "Events of the market sources played.",
            [({}, played)],
        ),
        _metric(
            "openbell_sim_market_lag_seconds",
            "gauge",
            "How far the market is behind its time.",
            [({}, lag_s)],
        ),
    ]
    return "".join(parts)


def _metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inner = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{inner}}} {value}" if inner else f"{name} {value}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
