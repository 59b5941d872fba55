"""A desk of three services that stand on each other, and a simulated venue: for rolling restarts."""

from __future__ import annotations

from typing import Any

import psutil

CHAIN = """
[rolling]
watch_for = "{watch}"
trading_within = "3s"
[services.base]
command = {web}
port = {p1}
ready = {{ kind = "http", path = "/" }}
critical = true
[services.middle]
command = ["sh", "-c", "{{desk}}/middle.sh"]
depends_on = ["base"]
ready = {{ kind = "exec", command = ["test", "-e", "{{desk}}/middle.ok"], every = "20ms", timeout = "5s" }}
restart = {{ policy = "never" }}
[services.top]
command = ["sleep", "86400"]
depends_on = ["middle"]
[services.sim]
command = ["sleep", "86400"]
role = "venue"
"""

GOOD = "#!/bin/sh\nexec sleep 86400\n"
BAD = "#!/bin/sh\necho no such symbol >&2\nexit 3\n"


def chain(make_desk: Any, watch: str = "100ms", services: str = CHAIN) -> Any:
    desk = make_desk(services.replace("{watch}", watch).replace("{{", "{").replace("}}", "}"))
    put(desk, GOOD)
    (desk.folder / "middle.ok").touch()
    desk.start()
    assert desk.run("open")[-1]["event"] == "done"
    return desk


def put(desk: Any, code: str) -> None:
    """New code of `middle`."""
    script = desk.folder / "middle.sh"
    fresh = desk.folder / "middle.new"
    fresh.write_text(code)
    fresh.chmod(0o755)
    fresh.replace(script)


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
