"""How long a failed delivery waits for its next try."""

import random
from datetime import timedelta

from fewshot_node.config import DeliverySettings

_MOST_DOUBLINGS = 30


def waiting_time(tries: int, settings: DeliverySettings, chance: random.Random) -> timedelta:
    """Return the wait after so many tries: it doubles up to a longest one, less up to half of it by chance.

    The chance keeps nodes that lost the same PACS from coming back to it all at once.
    """
    longest = min(settings.longest_wait_s, settings.backoff_s * 2.0 ** min(tries - 1, _MOST_DOUBLINGS))
    return timedelta(seconds=longest * chance.uniform(0.5, 1.0))
