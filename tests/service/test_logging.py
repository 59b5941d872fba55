"""Log lines: their order in time, what they must carry, and what they must never carry."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openbell.service.logging import LineRedactor, LineWriter, secrets_in, timestamp


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_time_stamps_sort_as_text_like_the_times_they_are_of(a: int, b: int) -> None:
    first, second = timestamp(a), timestamp(b)
    assert len(first) == len(second) == 30
    assert (first < second) == (a < b)


def test_a_time_stamp_is_utc_with_nanoseconds() -> None:
    assert timestamp(1_723_075_200_123_456_789) == "2024-08-08T00:00:00.123456789Z"


def test_a_secret_never_reaches_a_line(start_service: Callable[[str], Any], secret: str) -> None:
    service = start_service(
        """
        import logging, os
        secret = os.environ["OPENBELL_VENUE_SIM_SECRET"]
        app.log.info("plain " + secret, key=secret, nested={"url": "https://x/?s=" + secret})
        logging.getLogger("library").warning("library says %s", secret)
        def leak(request):
            local = secret
            raise ValueError("bad key " + local)
        app.route("GET", "/leak", leak)
        """
    )
    service.until_ready()
    assert service.ask("GET", "/leak")[0] == 500
    service.line("request failed")
    assert secret not in service.log_path.read_text()
    assert "[redacted]" in service.log_path.read_text()


def test_every_line_begins_with_its_time(start_service: Callable[[str], Any]) -> None:
    service = start_service("import logging\nlogging.getLogger('x').error('from a library')")
    service.until_ready()
    for line in service.log_path.read_bytes().splitlines():
        assert line.startswith(b'{"ts":"20')
        assert line[36:38] == b'Z"'
    assert service.line("from a library")["logger"] == "x"


def test_secrets_are_found_in_texts_that_were_escaped_or_quoted() -> None:
    redactor = LineRedactor()
    redactor.add(['a"b/c+d', "short"])
    assert redactor.clean(b'{"x":"a\\"b/c+d"}') == b'{"x":"[redacted]"}'
    assert redactor.clean(b"?k=a%22b%2Fc%2Bd&") == b"?k=[redacted]&"
    assert redactor.clean(b"a short word") == b"a short word"


def test_credential_variables_are_known_by_their_names() -> None:
    environment = {"OPENBELL_VENUE_X_KEY": "k", "OPENBELL_VENUE_X_SECRET": "s", "HOME": "/h"}
    assert secrets_in(environment) == ["k", "s"]


def test_a_line_that_cannot_be_written_is_counted_and_stops_nobody() -> None:
    reader, descriptor = os.pipe()
    os.close(descriptor)
    os.close(reader)
    writer = LineWriter(descriptor)
    writer.msg(b"lost")
    assert writer.lost == 1


def test_a_process_that_logs_loads_no_rich_and_can_load_it_afterwards() -> None:
    """structlog would: a tenth of a second of CPU at the start of each service, and of the controller."""
    code = """
import sys, openbell.service.logging
assert 'structlog' in sys.modules
print(any(name.split('.')[0] == 'rich' for name in sys.modules))
import rich.console
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
