"""Who is connected and what they feed, on a clock that the test moves."""

from typing import Any, cast

from fewshot_node.dicom.receive.open_associations import OpenAssociations
from fewshot_node.dicom.services import Rejection
from fewshot_node.dicom.upper_layer.association import Association


class Peer:
    """All that counts of an association here: who called, from where."""

    def __init__(self, calling_ae_title: str = "CT1", address: str = "10.0.0.1") -> None:
        self.calling_ae_title = calling_ae_title
        self.address = address


def peer(*names: str) -> Association:
    return cast("Association", Peer(*names))


def opened(associations: OpenAssociations, association: Association) -> Rejection | None:
    assert associations.begin(association) is None
    return associations.admit(association)


def test_limits_hold_in_all_and_for_one_peer() -> None:
    associations = OpenAssociations(maximum=3, maximum_per_peer=2)
    first, second, elsewhere = peer(), peer(), peer("CT1", "10.0.0.2")
    assert opened(associations, first) is opened(associations, second) is None
    assert opened(associations, peer()) is Rejection.TOO_MANY_OF_PEER
    assert opened(associations, elsewhere) is None
    assert opened(associations, peer("MR1")) is Rejection.TOO_MANY
    associations.end(first)
    assert opened(associations, peer("MR1")) is None


def test_the_oldest_unnegotiated_connection_gives_way() -> None:
    associations = OpenAssociations(10, 10)
    admitted = peer()
    opened(associations, admitted)
    waiting = [peer() for _ in range(128)]
    assert {associations.begin(one) for one in waiting} == {None}
    assert associations.begin(peer()) is waiting[0]


def test_a_series_is_fed_until_its_association_ends_or_has_long_gone_on() -> None:
    now = [0.0]
    associations = OpenAssociations(10, 10, clock=lambda: now[0])
    one, other = peer(), peer("MR1")
    opened(associations, one)
    opened(associations, other)
    associations.feed(one, "1.1")
    now[0] = 10_000.0
    assert associations.fed_series() == {"1.1"}  # its newest, however slow
    associations.feed(one, "1.2")
    now[0] += 299
    assert associations.fed_series() == {"1.2"}  # the first has been left for more than 300 s
    associations.feed(one, "1.3")
    associations.feed(other, "1.2")
    assert associations.fed_series() == {"1.2", "1.3"}
    associations.end(other)
    now[0] += 299
    assert associations.fed_series() == {"1.3"}
    associations.end(one)
    assert associations.fed_series() == set()


def test_what_was_sent_is_counted() -> None:
    associations = OpenAssociations(10, 10)
    one: Any = peer()
    opened(associations, one)
    for stored in (True, True, False):
        associations.count(one, stored=stored)
    feed = associations.end(one)
    assert (feed.stored, feed.refused, feed.is_admitted) == (2, 1, True)
