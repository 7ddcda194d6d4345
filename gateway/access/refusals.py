"""Keys that were refused: each counted, and a line of log for each address at most once a minute."""

import ipaddress
import logging
import time
from collections import OrderedDict

from prometheus_client import Counter

LOG = logging.getLogger("gateway.access.refusals")
PAUSE_S = 60.0
MAX_ADDRESSES = 1000  # remembered; of more, the one told of longest ago is forgotten
UNKNOWN = "unknown"


class Refusals:
    """Takes note of each refused key; who asks from many addresses cannot fill the memory."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._told_at: OrderedDict[str, float] = OrderedDict()

    def note(self, reason: str, host: str | None) -> None:
        """Counts it, and logs it where nothing was said of the host's address for PAUSE_S."""
        self._counter.labels(reason).inc()
        address = _address(host)
        now = time.monotonic()
        if now - self._told_at.get(address, float("-inf")) < PAUSE_S:
            return
        self._told_at[address] = now
        self._told_at.move_to_end(address)
        if len(self._told_at) > MAX_ADDRESSES:
            self._told_at.popitem(last=False)
        LOG.warning("an API key from %s was refused: %s; more from there is counted only for a minute", address, reason)


def _address(host: str | None) -> str:
    """Behind a proxy the host is what X-Forwarded-For says, which may be any text of any length."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return UNKNOWN
    # An interface behind % is any text as well.
    return str(ipaddress.IPv6Address(int(address)) if address.version == 6 else address)
