"""What an engine says of itself, so that it can be seen whether its standby is like it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from openbell import __version__
from openbell.config.models import LoadedDesk
from openbell.config.models import Venue as VenueConfig
from openbell.domain.parity import ParityFacts, VenueAccess
from openbell.service.code import code_hash, limits_hash
from openbell.trading.engine.engine import Engine


@dataclass(frozen=True)
class Likeness:
    """Of one process, from its start on."""

    code: str
    configuration: str
    limits: str
    access: Mapping[str, str]

    @classmethod
    def of(
        cls, desk: LoadedDesk, desk_id: str, credentials: Mapping[str, tuple[str, str]]
    ) -> Likeness:
        """Reads the package's files: blocks."""
        return cls(
            code=code_hash(),
            configuration=desk.digest,
            limits=limits_hash(desk.file),
            access={
                name: _access(venue, desk_id, credentials[name])
                for name, venue in desk.file.venues.items()
                if name in credentials
            },
        )

    def facts(self, engine: Engine) -> ParityFacts:
        return ParityFacts(
            version=__version__,
            code=self.code,
            configuration=self.configuration,
            limits=self.limits,
            venues={
                name: VenueAccess(
                    access=self.access.get(name, ""),
                    connected=link.connected,
                    why_not="" if link.connected else link.why_not,
                )
                for name, link in engine.links.items()
            },
            last_seq=engine.ledger.last_seq,
            problem=engine.follow_problem,
        )


def _access(venue: VenueConfig, desk_id: str, credentials: tuple[str, str]) -> str:
    """One-way, and another for every desk: equal only for the same account by the same keys."""
    parts = (venue.adapter, venue.url or "", venue.account or "", *credentials)
    return hmac.new(desk_id.encode(), "\0".join(parts).encode(), "sha256").hexdigest()[:16]
