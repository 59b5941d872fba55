"""From the desk file to specifications."""

from __future__ import annotations

import sys

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.models import Desk, DeskFile, LoadedDesk
from openbell.config.services import Service
from openbell.errors import ConfigError
from openbell.runtime.plan import build_specs


@pytest.fixture
def plan(tmp_path):
    def build(service, environ=None, secrets=None, extra=None):
        file = DeskFile(
            desk=Desk(name="test"), services={"web": Service.model_validate(service, strict=False)}
        )
        desk = LoadedDesk(file=file, path=tmp_path / "desk.toml", digest="")
        layout = DeskLayout.for_desk(tmp_path, {})
        specs = build_specs(desk, layout, environ or {}, secrets or {}, {"web": extra or {}})
        return specs["web"]

    return build


def test_placeholders_are_filled_and_other_braces_left(plan, tmp_path):
    spec = plan(
        {
            "command": (
                "{python}",
                "-m",
                "x",
                "{desk}/a",
                "--port={port}",
                "{state}",
                '{"json": 1}',
            ),
            "env": {"WHERE": "{state}/b"},
            "port": 8001,
            "ready": {"kind": "exec", "command": ("{python}", "{port}")},
        }
    )
    state = tmp_path / "state" / "services" / "web"
    assert spec.argv == (
        sys.executable,
        "-m",
        "x",
        f"{tmp_path}/a",
        "--port=8001",
        str(state),
        '{"json": 1}',
    )
    assert spec.environment["WHERE"] == f"{state}/b"
    assert spec.ready.command == (sys.executable, "8001")
    assert spec.environment["OPENBELL_SERVICE"] == "web"
    assert spec.environment["OPENBELL_PORT"] == "8001"
    assert spec.environment["OPENBELL_DESK"] == str(tmp_path)
    assert spec.environment["OPENBELL_STATE"] == str(tmp_path / "state")


def test_a_service_gets_only_what_it_names(plan):
    environ = {"PATH": "/bin", "HOME": "/home/x", "PYTHONPATH": "/evil", "AWS_SECRET": "hush"}
    spec = plan(
        {"command": ("x",), "secrets": ("API_KEY",)},
        environ,
        {"API_KEY": "k", "OTHER_KEY": "o"},
        {"VENUE_KEY": "v"},
    )
    assert spec.environment["API_KEY"] == "k" and spec.environment["VENUE_KEY"] == "v"
    assert spec.environment["HOME"] == "/home/x"
    assert not {"PYTHONPATH", "AWS_SECRET", "OTHER_KEY", "OPENBELL_PORT"} & set(spec.environment)


def test_secrets_show_neither_in_the_representation_nor_in_the_digest(plan):
    spec = plan({"command": ("x",), "secrets": ("API_KEY",)}, secrets={"API_KEY": "canary"})
    assert "canary" not in repr(spec) and "canary" not in spec.digest
    other = plan({"command": ("x",), "secrets": ("API_KEY",)}, secrets={"API_KEY": "another"})
    assert other.digest != spec.digest, "a changed key is drift"


def test_the_environment_overrides_the_env_file(plan):
    spec = plan({"command": ("x",), "secrets": ("K",)}, {"K": "shell"}, {"K": "file"})
    assert spec.environment["K"] == "shell"


def test_a_missing_secret_or_port_is_named(plan):
    with pytest.raises(ConfigError, match="API_KEY"):
        plan({"command": ("x",), "secrets": ("API_KEY",)})
    with pytest.raises(ConfigError, match="has no port"):
        plan({"command": ("x", "{port}")})


def test_own_services_have_a_trial_and_others_the_one_they_name(plan):
    own = ("{python}", "-m", "openbell.services.market_analysis")
    assert plan({"command": own}).trial == (sys.executable, *own[1:], "--trial")
    assert plan({"command": own, "trial": {"command": ()}}).trial == ()
    assert plan({"command": ("x",)}).trial == ()
    tried = plan({"command": ("x",), "trial": {"command": ("{python}", "a"), "timeout": "2s"}})
    assert (tried.trial, tried.trial_timeout_s) == ((sys.executable, "a"), 2.0)


def test_another_shell_is_no_other_specification(plan):
    service = {"command": ("x",)}
    assert plan(service, {"PATH": "/bin"}).digest == plan(service, {"PATH": "/venv:/bin"}).digest


def test_the_same_desk_file_gives_the_same_digest(plan):
    service = {"command": ("x",), "env": {"A": "1"}, "port": 8001}
    assert plan(service).digest == plan(service).digest
    assert plan(service).digest != plan({**service, "port": 8002}).digest
