"""People are told by the channels of the desk file; who is not known to be told is in the log."""

from __future__ import annotations

from openbell.controller.desk import ControlledDesk
from openbell.service.logging import get_logger
from openbell.watch.channels import Notice, Told

log = get_logger()


async def tell_people(
    desk: ControlledDesk, event: str, text: str, run: str = ""
) -> tuple[Told, ...]:
    """All channels that want this event, at once; takes as long as the slowest may. Never raises."""
    channels = desk.channels
    told = await channels.tell(channels.for_event(event), Notice(event, text, run))
    for each in told:
        if each.outcome != "told":
            log.warning("not known to be told", channel=each.channel, news=event, why=each.why)
    return told
