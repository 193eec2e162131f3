"""10,000 mutated associations and data sets against one receiver."""

import itertools
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.bars import Board
from tests.benchmarks.receive.memory import LIMIT_MB, watched
from tests.benchmarks.receive.peers import Peer, receiver
from tests.benchmarks.receive.stored import digest, stored_digests, unfinished_files
from tests.dicom.mutations import mutated_association, mutated_dataset, play, store_mutated
from tests.dicom.wire import AssociationEndedError, WireSender, instance

ASSOCIATIONS, DATASETS, BATCH, AT_ONCE = 6000, 4000, 500, 8
_SERIES = "1.2.826.0.1.3680043.8.498.89"
_PROCESSING_FAILURE = 0x0110
_SETTLED_WITHIN_S = 10.0
_STATUSES = {0x0000, 0x0110, 0xA700, 0xA900, 0xB000, 0xC000}


def mutation(board: Board) -> None:
    """Send mutants in batches; after each batch a good sender must be served."""
    home = board.scratch / "mutation"
    counts: Counter[str] = Counter()
    board.detail(f"seeds 0 to {ASSOCIATIONS - 1} of associations, 0 to {DATASETS - 1} of data sets")
    limits = {"max_associations": 200, "max_associations_per_peer": 200}
    with receiver(home, min_free_mb=0, reject_below_free_mb=0, **limits) as peer, watched(peer) as resident:
        for number, (kind, seeds) in enumerate(_batches()):
            play_batch = _play_associations if kind == "associations" else _play_datasets
            counts.update(play_batch(peer, seeds))
            if not peer.is_alive():
                board.detail(f"died in the batch of {kind} from seed {seeds[0]}: {peer.log[-2000:]}")
                break
            counts["good sender not served"] += not _serves(peer, number)
            counts[f"{kind} sent"] += len(seeds)
        _report(board, peer, counts)
    board.bar("receive-mutation-memory-mb", resident.growth_mb, "<", LIMIT_MB)


def _report(board: Board, peer: Peer, counts: Counter[str]) -> None:
    for text, count in sorted(counts.items()):
        board.detail(f"{text}: {count}")
    sent = counts["associations sent"] + counts["data sets sent"]
    board.bar("receive-mutation-sent", sent, ">=", ASSOCIATIONS + DATASETS)
    board.bar("receive-mutation-deaths", int(not peer.is_alive()), "=", 0)
    board.bar("receive-mutation-good-sender-not-served", counts["good sender not served"], "=", 0)
    board.bar("receive-mutation-valid-part-not-served", counts["valid part not served"], "=", 0)
    board.bar("receive-mutation-acknowledged-but-changed", counts["acknowledged but changed"], "=", 0)
    board.bar("receive-mutation-left-in-incoming", _left_in_incoming(peer), "=", 0)
    board.bar("receive-mutation-thread-deaths", peer.log.count("Exception in thread"), "=", 0)
    board.info("receive-mutation-tracebacks-in-log", peer.log.count("Traceback"))
    board.info("receive-mutation-connections-not-ended", counts["connection not ended"], "within 1 s of our end")


def _batches() -> list[tuple[str, Sequence[int]]]:
    kinds = (("associations", ASSOCIATIONS), ("data sets", DATASETS))
    return [
        (kind, range(start, min(start + BATCH, total))) for kind, total in kinds for start in range(0, total, BATCH)
    ]


def _play_associations(peer: Peer, seeds: Sequence[int]) -> Counter[str]:
    def one(seed: int) -> Counter[str]:
        try:
            outcome = play(peer.port, mutated_association(seed))
        except AssociationEndedError:
            return Counter({"connection refused": 1})
        return Counter({"valid part not served": not outcome.served, "connection not ended": not outcome.ended})

    with ThreadPoolExecutor(AT_ONCE) as senders:
        return sum(senders.map(one, seeds), Counter())


def _play_datasets(peer: Peer, seeds: Sequence[int]) -> Counter[str]:
    """Send data sets on associations that go on as long as the receiver lets them."""
    acknowledged: dict[str, str] = {}

    def some(share: Sequence[int]) -> Counter[str]:
        counts: Counter[str] = Counter()
        left = iter(share)
        while (seed := next(left, None)) is not None:
            with WireSender(peer.port) as sender:
                for each in itertools.chain((seed,), left):
                    status = store_mutated(sender, each)
                    counts[_named(status)] += 1
                    if status == _PROCESSING_FAILURE:
                        counts[f"data set of seed {each}: 0x0110, an internal error"] += 1
                    if status is None:
                        break
                    if status == 0:
                        uid, encoded = mutated_dataset(each)
                        acknowledged[uid] = digest(encoded)
        return counts

    with ThreadPoolExecutor(AT_ONCE) as senders:
        counts = sum(senders.map(some, [seeds[first::AT_ONCE] for first in range(AT_ONCE)]), Counter())
    stored = stored_digests(peer.home)
    counts["acknowledged but changed"] = sum(stored.get(uid) != expected for uid, expected in acknowledged.items())
    return counts


def _left_in_incoming(peer: Peer) -> int:
    """Count unfinished files that stay when nobody sends any more."""
    deadline = time.monotonic() + _SETTLED_WITHIN_S
    while (left := len(unfinished_files(peer.home))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _named(status: int | None) -> str:
    if status is None:
        return "data set: association ended"
    return f"data set: 0x{status:04X}" if status in _STATUSES else f"data set: unexpected status 0x{status:04X}"


def _serves(peer: Peer, number: int) -> bool:
    """Send a C-ECHO and a C-STORE as any sender does, and look at the file."""
    uid = f"{_SERIES}.{number + 1}"
    dataset = instance(uid, _SERIES, pixels=os.urandom(60_000))
    try:
        with WireSender(peer.port, calling="GOOD") as sender:
            if sender.rejected or sender.echo() or sender.store(uid, dataset):
                return False
            sender.release()
    except AssociationEndedError:
        return False
    return stored_digests(peer.home, [_SERIES]).get(uid) == digest(dataset)
