"""A desk that depends on a real PostgreSQL and a real Redis is opened once they serve, and not before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.harness.controller_process import TWO
from tests.harness.postgres import ACCEPTS, REFUSES, postgres_server
from tests.harness.redis import redis

STORES = """
[dependencies.ledger]
kind = "postgres"
url = "{postgres}"
timeout = "30s"
[dependencies.cache]
kind = "redis"
url = "redis://127.0.0.1:{redis}"
timeout = "30s"
"""


def opened(desk: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The last event of an opening, and what its pre-flight found in each store."""
    run = desk.post("open")[1]["run"]
    last = desk.get(f"runs/{run}/events")[1][-1]
    looked = desk.get(f"runs/{run}/report")[1]["steps"][0]
    assert looked["name"] == "preflight"
    checks = {each["name"]: each for each in looked["after"]["checks"]}
    return last, {name: checks[f"dependency_{name}"] for name in ("ledger", "cache")}


def test_a_desk_is_opened_once_its_stores_serve_and_not_before(
    make_desk: Any, tmp_path: Path
) -> None:
    with postgres_server() as ledger, redis(tmp_path) as (cache, _):
        ledger.start()
        ledger.until(ACCEPTS)
        ledger.make()
        ledger.kill()
        ledger.starts_slowly()
        ledger.start()
        ledger.until(REFUSES)
        desk = make_desk(TWO + STORES.format(postgres=ledger.url(), redis=cache))
        desk.start()

        last, found = opened(desk)
        assert last["event"] == "failed", last
        assert found["ledger"]["found"] == "failed"
        assert "the database system is starting up (57P03)" in found["ledger"]["detail"]
        assert "ledger" in last["message"] and "nothing was started" in last["message"]
        assert found["ledger"]["remedy"] == "start ledger, or mend [dependencies.ledger]"
        assert (found["cache"]["found"], found["cache"]["detail"]) == ("ok", "answers PING")
        assert [row["state"] for row in desk.status()["services"]] == ["stopped", "stopped"]

        ledger.starts()
        ledger.until(ACCEPTS)
        last, found = opened(desk)
        assert (last["event"], last["outcome"]) == ("done", "trading"), last
        assert (found["ledger"]["found"], found["ledger"]["detail"]) == (
            "ok", "serves ledger to desk",
        )  # fmt: skip
        assert [row["state"] for row in desk.status()["services"]] == ["ready", "ready"]
