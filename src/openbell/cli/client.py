"""The controller's API as the command line uses it: over the unix socket, with the API token.

On the standard library alone: importing an HTTP library would take longer than most commands.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from openbell import errors
from openbell.cli.no_controller import NoControllerError
from openbell.cli.reaching import GONE, reach
from openbell.config.layout import DeskLayout
from openbell.errors import NotRunningError, OpenbellError, UnverifiedError
from openbell.runtime.peer import NotOursError, require_process, require_user
from openbell.state.lock import held_by

_BY_CODE: dict[str, type[OpenbellError]] = {
    error.code: error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, OpenbellError)
}


def actor() -> str:
    """Who asks, for the audit log: `$OPENBELL_ACTOR`, or the name of this user."""
    named = os.environ.get("OPENBELL_ACTOR")
    if named:
        return named
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


@contextlib.contextmanager
def _cut_off_is_unverified() -> Iterator[None]:
    """A controller that was killed in the middle of its answer may have done what was asked."""
    try:
        yield
    except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
        raise UnverifiedError(
            f"the controller did not answer: {error or type(error).__name__}",
            hint="look with `openbell status`; what was asked for may have happened",
        ) from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """One desk's controller.

    Every call raises NotRunningError where no controller answers, the error the controller names
    otherwise, and UnverifiedError where the answer did not come: the request may have had effect.
    """

    def __init__(self, layout: DeskLayout) -> None:
        self._layout = layout

    def get(self, path: str, *, timeout_s: float = 30, **query: object) -> Any:
        """Decoded answer of `GET /api/v1/<path>`; query values of None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._call(
            "GET", f"{path}?{urlencode(given, doseq=True)}" if given else path, None, timeout_s
        )

    def post(self, path: str, body: object = None, *, timeout_s: float = 60) -> Any:
        return self._call("POST", path, body if body is not None else {}, timeout_s)

    def is_running(self) -> bool:
        """Whether a controller answers."""
        try:
            self.get("ping", timeout_s=5)
        except (NotRunningError, UnverifiedError):
            return False
        return True

    def live_venues(self) -> list[str]:
        """Venues of the desk, as the controller has it loaded, at which real money is traded."""
        return list(self.get("ping").get("live", ()))

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """Lines of JSON as they come, until the controller ends the stream. Waits for ever.

        A stream that is cut off, in the middle of a line too, raises UnverifiedError.
        """
        response = self._request("GET", path, None, None)
        self._raise_for(response)
        while True:
            with _cut_off_is_unverified():
                line = response.readline()
                event = json.loads(line) if line else None
            if event is None:
                return
            yield event

    def lines(self, path: str, *, timeout_s: float = 30) -> list[dict[str, Any]]:
        """Lines of JSON of an answer that ends. A line that is cut off raises UnverifiedError."""
        response = self._request("GET", path, None, timeout_s)
        self._raise_for(response)
        with _cut_off_is_unverified():
            return [json.loads(line) for line in response.read().splitlines()]

    def _call(self, method: str, path: str, body: object, timeout_s: float) -> Any:
        response = self._request(method, path, body, timeout_s)
        self._raise_for(response)
        with _cut_off_is_unverified():
            data = response.read()
        return json.loads(data) if data else None

    def _request(
        self, method: str, path: str, body: object, timeout_s: float | None
    ) -> http.client.HTTPResponse:
        try:
            try:
                connection = self._by_socket(timeout_s)
            except GONE as gone:
                # Its path was cleaned away, or leads to another's, or nobody is there.
                connection = self._otherwise(gone, timeout_s)
            token = self._layout.api_token.read_text().strip()
        except GONE:
            raise NoControllerError(
                "the desk is not running: no controller answers",
                hint="open it with `openbell up`",
            ) from None
        except PermissionError as error:
            raise errors.RefusedError(
                f"this desk belongs to another user: {error.filename or self._layout.state}",
                hint="run the command as the user who opened it",
            ) from None
        except OSError as error:  # its backlog is full: it hangs, or is stopped
            raise UnverifiedError(
                f"the controller does not answer: {error.strerror or error}",
                hint="nothing was asked for; look with `openbell status`",
            ) from error
        payload = None if body is None else json.dumps(body)
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "X-Openbell-Actor": actor(),
            "Host": "localhost",
        }
        with _cut_off_is_unverified():
            connection.request(method, f"/api/v1/{path}", body=payload, headers=headers)
            return connection.getresponse()

    def _by_socket(self, timeout_s: float | None) -> http.client.HTTPConnection:
        """Connected to the controller: whoever else made a socket there would be sent the token, which is of
        the user whose file it is. Raises OSError."""
        connection = _UnixConnection(self._layout.controller_socket, timeout_s)
        try:
            connection.connect()
            require_user(connection.sock, self._layout.api_token.stat().st_uid)
            if (holder := held_by(self._layout.controller_lock)) is not None:
                require_process(connection.sock, holder)
        except BaseException:
            connection.close()
            raise
        return connection

    def _otherwise(self, gone: OSError, timeout_s: float | None) -> http.client.HTTPConnection:
        """Connected where the socket does not lead to it. Raises NoControllerError."""
        try:
            return reach(self._layout, lambda: self._by_socket(timeout_s), timeout_s)
        except NoControllerError as error:
            if not isinstance(gone, NotOursError):
                raise
            told = f"{error.message}; {gone}, which was asked nothing"
            raise NoControllerError(told, hint=error.hint, **error.facts) from gone

    @staticmethod
    def _raise_for(response: http.client.HTTPResponse) -> None:
        if response.status < 400:
            return
        with _cut_off_is_unverified():
            body = response.read()
        try:
            told = json.loads(body)
            code, message = str(told.pop("error")), str(told.pop("message"))
        except (ValueError, KeyError, AttributeError):
            raise OpenbellError(
                f"the controller answered {response.status}: {body[:200]!r}"
            ) from None
        kind = _BY_CODE.get(code, OpenbellError)
        raise kind(message, hint=str(told.pop("hint", "")), **told)
