"""A real PostgreSQL and a real Redis, in the states that a desk may find them in as it opens."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tests.harness.ports import free_ports
from tests.harness.postgres import postgres_server
from tests.harness.redis import redis

from openbell.config.layout import DeskLayout
from openbell.config.preflight import Dependency
from openbell.procedures.dependencies import DependencyFact, ask_dependency

WAIT_S = 60


async def ask(folder: Path, url: str, timeout: str = "20s") -> DependencyFact:
    (folder / "state").mkdir(exist_ok=True)
    layout = DeskLayout(folder, folder / "state")
    dependency = Dependency(kind=url.partition(":")[0], url=url, timeout=timeout)
    return await ask_dependency("it", dependency, layout, {})


async def asked_until(folder: Path, url: str, wanted: str) -> DependencyFact:
    """The answer that says this, however many others come before it."""
    found = None
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                found = await ask(folder, url)
                if wanted in found.why:
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"nothing like {wanted!r}: {found}") from None


async def test_a_real_postgres_says_whether_it_serves_this_database_to_this_user(
    tmp_path: Path,
) -> None:
    with postgres_server() as server:
        server.start()
        # Nothing is made yet: the server itself says that it knows the user by no name.
        early = await asked_until(tmp_path, server.url(), 'role "desk" does not exist')
        assert early.serves is False
        server.make()

        found = await ask(tmp_path, server.url())
        assert (found.serves, found.why) == (True, "serves ledger to desk")
        for user, database, why in (
            ("desk", "nowhere", 'FATAL: database "nowhere" does not exist (3D000)'),
            ("desk", "crowded", 'FATAL: too many connections for database "crowded" (53300)'),
            ("nobody", "ledger", 'FATAL: role "nobody" does not exist (28000)'),
        ):
            found = await ask(tmp_path, server.url(user, database))
            assert (found.serves, found.why) == (False, why)
        found = await ask(tmp_path, server.url("stranger"))
        assert found.serves is False and "no pg_hba.conf entry" in found.why, found
        for user in ("scram", "md5"):
            found = await ask(tmp_path, server.url(user))
            assert found.serves is True and f"it asks {user} for a password" in found.why, found

        # Some let nobody in who comes without TLS.
        found = await ask(tmp_path, server.url("encrypted"))
        assert found.serves is False and "no encryption" in found.why, found
        server.encrypts()
        found = await asked_until(tmp_path, server.url("encrypted"), "serves ledger to encrypted")
        assert found.serves is True
        assert (await ask(tmp_path, server.url())).why == "serves ledger to desk"
        found = await ask(tmp_path, server.url("desk", "nowhere"))
        assert (found.serves, "(3D000)" in found.why) == (False, True), found

        # A session that was begun was ended, as the protocol ends one.
        async with asyncio.timeout(WAIT_S):
            while (
                server.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'ledger'") != "0"
            ):
                await asyncio.sleep(0.1)
        assert "unexpected EOF" not in server.log()


async def test_a_real_postgres_that_hangs_closes_is_killed_or_starts_up_does_not_serve(
    tmp_path: Path,
) -> None:
    with postgres_server() as server:
        server.start()
        await asked_until(tmp_path, server.url(), 'role "desk" does not exist')
        server.make()
        url = server.url()
        assert (await ask(tmp_path, url)).serves is True

        server.send(signal.SIGSTOP)
        # The kernel takes connections all the same.
        hung = await ask(tmp_path, url, timeout="300ms")
        assert (hung.serves, hung.why) == (None, "no answer within 0.3s")
        server.send(signal.SIGCONT)
        assert (await ask(tmp_path, url)).serves is True

        with server.session():
            server.send(signal.SIGTERM)  # it ends once everybody has left
            closing = await asked_until(tmp_path, url, "is shutting down (57P03)")
            assert closing.serves is False
        server.until_ended()
        gone = await ask(tmp_path, url)
        assert (gone.serves, "Connect call failed" in gone.why) == (False, True), gone

        server.start()
        await asked_until(tmp_path, url, "serves ledger to desk")
        server.kill()
        assert (await ask(tmp_path, url)).serves is False

        # After a crash, on a log that is restored from an archive: it takes connections, and refuses.
        server.starts_slowly()
        server.start()
        starting = await asked_until(tmp_path, url, "the database system is starting up (57P03)")
        assert starting.serves is False
        server.starts()
        assert (await asked_until(tmp_path, url, "serves ledger to desk")).serves is True


async def test_a_real_redis_serves_asks_for_a_password_hangs_and_is_gone(tmp_path: Path) -> None:
    with redis(tmp_path) as (port, process):
        url = f"redis://127.0.0.1:{port}"
        assert (await asked_until(tmp_path, url, "answers PING")).serves is True
        process.send_signal(signal.SIGSTOP)
        # The kernel takes connections all the same.
        hung = await ask(tmp_path, url, timeout="300ms")
        assert hung.serves is None and "no answer" in hung.why
        process.send_signal(signal.SIGCONT)
        assert (await asked_until(tmp_path, url, "answers PING")).serves is True
    gone = await ask(tmp_path, url)
    assert gone.serves is False, gone

    with redis(tmp_path, "--requirepass", "x") as (port, _):
        found = await asked_until(tmp_path, f"redis://127.0.0.1:{port}", "asks for a password")
        assert found.serves is True


async def test_a_real_redis_that_follows_a_master_which_is_not_there_is_told(
    tmp_path: Path,
) -> None:
    """It answers, and says that what it has is not to be served: no port check would tell."""
    (nobody,) = free_ports(1)
    options = ("--replicaof", f"127.0.0.1 {nobody}", "--replica-serve-stale-data", "no")
    with redis(tmp_path, *options) as (port, _):
        found = await asked_until(tmp_path, f"redis://127.0.0.1:{port}", "MASTERDOWN")
        assert found.serves is False
