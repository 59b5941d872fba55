"""What adapters over ccxt share: how a request is signed.

ccxt knows each venue's addresses, parameters and signatures, and that is what it is used for.
Its transport is not: there a reply's HTTP status is lost, retries can hide, and numbers pass
through floats. A subclass names ccxt's class, builds requests with `_signed`, and says in
`_problem_in` what its venue's answers mean; the rest is `rest.RestVenue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from openbell.config.models import Venue as VenueConfig
from openbell.venues.ccxt_classes import exchange_class, is_bad_credentials
from openbell.venues.credentials import Credentials
from openbell.venues.original import original
from openbell.venues.port import VenueAuthError
from openbell.venues.rest import RestVenue
from openbell.venues.transport import Request


class CcxtVenue(RestVenue):
    """Base of the adapters over ccxt. A subclass implements the port's calls."""

    exchange_id: ClassVar[str]
    """Name of ccxt's class."""

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        super().__init__(name, config, credentials)
        self._exchange = self._make_exchange()

    def _options(self) -> dict[str, Any]:
        """ccxt's options for this venue."""
        return {}

    def _make_exchange(self) -> Any:
        """ccxt's object, used for its tables and signatures and never to send."""
        exchange = exchange_class(self.exchange_id)(
            {
                "apiKey": self._credentials.key,
                "secret": self._credentials.secret,
                "enableRateLimit": False,
                "options": {"maxRetriesOnFailure": 0, **self._options()},
            }
        )
        if self.config.environment == "practice" and self.config.url is None:
            self._use_test_system(exchange)
        if self.config.url is not None:
            exchange.urls["api"] = moved_to(self.config.url, exchange.urls["api"])
        exchange.nonce = self._clock.now_ms
        return exchange

    def _use_test_system(self, exchange: Any) -> None:
        exchange.set_sandbox_mode(True)

    def _signed(
        self, method: str, api: str, path: str, params: Mapping[str, object] | None = None
    ) -> Request:
        """A request to one of the venue's endpoints, signed where its section asks for it.

        `api` and `path` are ccxt's names of the section and the endpoint: `private`, `order`. A
        section within a section is `v3/private`.
        """
        try:
            signed = self._exchange.sign(path, api.split("/"), method, dict(params or {}))
        except Exception as error:
            if not is_bad_credentials(error):
                raise
            raise VenueAuthError(f"{self.name}: key or secret is missing") from original(error)
        body = signed["body"]
        return Request(
            method=method,
            url=signed["url"],
            headers=signed["headers"] or {},
            body=body.encode() if body else None,
        )


def moved_to(base: str, urls: Any) -> Any:
    """ccxt's URL table with every scheme and host replaced by those of `base`; paths stay.

    Recursive; where an entry is a WebSocket address it stays one (`wss://` becomes `ws://` or
    `wss://` as `base` is http or https).
    """
    if isinstance(urls, dict):
        return {key: moved_to(base, value) for key, value in urls.items()}
    if not isinstance(urls, str):
        return urls
    target, old = urlsplit(base), urlsplit(urls)
    scheme = target.scheme.replace("http", "ws") if old.scheme in ("ws", "wss") else target.scheme
    return old._replace(scheme=scheme, netloc=target.netloc).geturl()
