"""A process runs older code where the files that its command names have changed since it began."""

from __future__ import annotations

from openbell.runtime import code
from openbell.runtime.code import CodeWatch, code_of


async def test_a_service_whose_script_has_changed_runs_older_code_until_it_is_started_again(
    bench, until
):
    script = bench.folder / "worker.sh"
    script.write_text("exec sleep 600\n")
    bench.add("worker", command=("sh", str(script), "--log", "data.log"))
    supervisor = bench.supervisor()
    await supervisor.adopt()
    await supervisor.start("worker")
    assert not supervisor.view("worker").drifted
    (bench.folder / "data.log").write_text("a file of data changes all the time")
    script.write_text("exec sleep 900\n")
    await until(lambda: supervisor.view("worker").drift == ("code",))
    assert supervisor.view("worker").drifted
    await supervisor.stop("worker", reason="test")
    await supervisor.start("worker")
    assert not supervisor.view("worker").drifted


async def test_a_restarted_controller_still_knows_which_code_a_service_was_started_with(
    bench, until
):
    script = bench.folder / "worker.sh"
    script.write_text("exec sleep 600\n")
    bench.add("worker", command=("sh", str(script)))
    first = bench.supervisor()
    await first.adopt()
    await first.start("worker")
    await first.detach()
    script.write_text("exec sleep 900\n")
    second = bench.supervisor()
    await second.adopt()
    assert second.view("worker").drift == ("code",)


def test_code_is_told_by_the_program_its_first_script_and_openbells_own_modules(bench):
    bench.add("own", command=("{python}", "-m", "openbell.services.market_data"))
    bench.add("foreign", command=("{python}", "-m", "http.server"))
    own, foreign = bench.specs()["own"], bench.specs()["foreign"]
    before = code_of(own), code_of(foreign)
    (bench.folder / "my_strategies.py").write_text("GAIN = 2\n")
    assert code_of(own) != before[0] and code_of(foreign) == before[1]


def test_a_command_that_names_nothing_readable_has_a_code_all_the_same(bench):
    bench.add("odd", command=("no-such-program", "x" * 5000))
    assert code_of(bench.specs()["odd"]) == code_of(bench.specs()["odd"])


def test_a_module_anywhere_in_openbells_package_changes_the_code_of_its_services_and_of_no_other(
    bench, monkeypatch
):
    package = bench.folder / "package"
    (package / "deep" / "__pycache__").mkdir(parents=True)
    monkeypatch.setattr(code, "_OWN_PACKAGE", str(package))
    bench.add("own", command=("{python}", "-m", "openbell.services.market_data"))
    bench.add("other", command=("{python}", "-m", "openbell.services.risk_management"))
    bench.add("foreign", command=("{python}", "-m", "http.server"))
    specs = [bench.specs()[name] for name in ("own", "other", "foreign")]

    def codes() -> tuple[str, str, str]:
        seen = tuple(code_of(spec) for spec in specs)
        watch = CodeWatch()
        assert tuple(watch.recent(spec) for spec in specs) == seen
        return seen

    first = codes()
    (package / "deep" / "__pycache__" / "rules.py").write_text("compiled\n")
    assert codes() == first
    (package / "deep" / "rules.py").write_text("LIMIT = 2\n")
    second = codes()
    assert second[0] != first[0] and second[1] != first[1] and second[2] == first[2]
    (package / "deep" / "rules.py").write_text("LIMIT = 20\n")
    third = codes()
    assert third[0] != second[0] and third[1] != second[1]


def test_recent_answers_are_never_older_than_a_second_though_services_share_what_was_read(
    bench, monkeypatch
):
    package = bench.folder / "package"
    package.mkdir()
    monkeypatch.setattr(code, "_OWN_PACKAGE", str(package))
    clock = [0.0]
    monkeypatch.setattr(code.time, "monotonic", lambda: clock[0])
    bench.add("own", command=("{python}", "-m", "openbell.services.market_data"))
    bench.add("other", command=("{python}", "-m", "openbell.services.risk_management"))
    own, other = bench.specs()["own"], bench.specs()["other"]
    watch = CodeWatch()
    before = watch.recent(own)
    (package / "rules.py").write_text("LIMIT = 2\n")
    clock[0] = 0.9
    watch.recent(other)
    clock[0] = 1.1
    assert watch.recent(own) != before
    assert watch.recent(other) == code_of(other)
