"""Which orders of an engine that has ended may have left it, as its register of live orders tells.

An order is journaled, then put into the register, and marked there directly before its first byte is
written (`openbell.state.order_register`). What the journal holds of an engine that was killed in between,
and the register does not name, or names as not yet let go, was never sent: it need not be asked for, nor
be waited for until it can land no more.

That is believed only where nothing speaks against it; else nothing is known, and every order that had no
answer is in doubt:
- the engine has ended. Two must tell: whoever promotes its successor, and the kernel, which lets go of the
  locks on its files only then.
- every register in the folder can be read, since one that cannot may be its own;
- all files of its epoch are whole, are the very ones that it wrote, and were written since the machine's
  last start; and by a version that marks free slots, so that an order whose slot was zeroed does not pass
  for one that was never put in;
- those that it named as it took office are among them, so that none was removed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from openbell.domain.orders import ClOrdID
from openbell.state.live_orders import (
    FREE,
    HEADER_SIZE,
    SUFFIX,
    Sent,
    epoch_of,
    fixed_of,
    parse,
    read_index,
)


def may_have_left(folder: Path, boot_id: str, epoch: int) -> frozenset[ClOrdID] | None:
    """Orders in the register of the engine that held this epoch that may have left it, or an engine before
    it. None: not known. Raises nothing for what is in the folder, and for how it is."""
    try:
        index = read_index(folder)
        if index is None or not boot_id or index.boot_id != boot_id:
            return None
        found = {
            path.name: _of_epoch(path, boot_id, epoch)
            for path in folder.iterdir()
            if path.suffix == SUFFIX
        }
    except (OSError, ValueError):
        return None
    own = {name: left for name, left in found.items() if left is not None}
    if not own or not set(index.files) <= own.keys():
        return None
    return frozenset().union(*own.values())


def _of_epoch(path: Path, boot_id: str, epoch: int) -> frozenset[ClOrdID] | None:
    """None: it is the file of another epoch. OSError; ValueError where it is not to be believed."""
    with path.open("rb") as file:
        is_its = epoch_of(file.read(HEADER_SIZE)) == epoch
        if is_its:
            # BlockingIOError, an OSError: its engine has it mapped, and so has not ended. What is read is
            # read afterwards, when nobody can let another order go.
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.seek(0)
        data = file.read()
        told, fixed = parse(data), fixed_of(data)
        if fixed is None or told.damage:
            raise ValueError(f"{path}: {told.damage}")
        if not is_its:
            return None
        if fixed.boot_id != boot_id or fixed.inode != os.fstat(file.fileno()).st_ino:
            raise ValueError(f"{path} is not what an engine wrote since the machine's last start")
        if not fixed.locked:
            raise ValueError(f"{path}: nothing tells whether its engine has ended")
        if fixed.free != FREE:
            raise ValueError(f"{path}: a slot that was zeroed looks free")
    return frozenset(each.cl_ord_id for each in told.orders if each.sent is not Sent.INTENDED)
