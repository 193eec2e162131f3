"""Health and metrics over HTTP, read by Prometheus' own parser, and by clients that mean no good."""

import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fewshot_node.config import MonitorSettings
from fewshot_node.dicom.ledger import Ledger, Parcel, SeriesNote, SeriesState
from fewshot_node.dicom.monitor.health import intake_checks
from fewshot_node.dicom.monitor.metrics import IntakeMetrics
from fewshot_node.dicom.monitor.node_state import NodeState
from fewshot_node.dicom.monitor.server import MAX_CONNECTIONS, MonitorServer
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import ConfigurationError, PortInUseError, RetryableError
from tests.dicom.conftest import Intake, Sender

LOCAL = MonitorSettings(host="127.0.0.1", port=0)
HOSTILE = ['"} evil 1\n', "SECRET^PERSON", "\x00\xff", "a" * 10_000, "reason\nfewshot_node_fake 1", "", "\uff35\ud800"]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve metrics and checks, and give the URL."""
    with ExitStack() as running:

        def start(metrics: IntakeMetrics | None = None, checks: dict[str, Any] | None = None) -> str:
            server = running.enter_context(MonitorServer(LOCAL, metrics or IntakeMetrics(), checks or {}))
            return f"http://127.0.0.1:{server.port}"

        yield start


def scrape(url: str) -> Samples:
    answer = httpx.get(f"{url}/metrics", timeout=10)
    assert answer.status_code == 200
    return parse(answer.text)


def parse(text: str) -> Samples:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"fewshot_node_{name}", tuple(sorted(labels.items()))]


def names(samples: Samples) -> set[str]:
    return {name.removeprefix("fewshot_node_") for name, _ in samples}


def note(ledger: Ledger, series_uid: str, when: datetime) -> None:
    ledger.note_instances([SeriesNote.of_one(series_uid, "1.2", "CT1", 100, when)])


def test_every_event_is_counted_under_the_name_that_dashboards_use(serve: Callable[..., str]) -> None:
    metrics = IntakeMetrics()
    url = serve(metrics)
    metrics.association_opened()
    metrics.association_opened()
    metrics.association_closed()
    metrics.rejected("too_many")
    metrics.rejected("tls")
    metrics.answered(0x0000, 1000, 0.02)
    metrics.answered(0xB000, 500)
    metrics.answered(0xA700, 70_000, 0.3)
    found = scrape(url)
    assert value(found, "associations_total") == 2
    assert value(found, "associations_open") == 1
    assert value(found, "rejections_total", reason="too_many") == 1
    assert value(found, "rejections_total", reason="tls") == 1
    assert value(found, "rejections_total", reason="address") == 0
    assert value(found, "instances_total", status="0000") == 1
    assert value(found, "instances_total", status="B000") == 1
    assert value(found, "instances_total", status="A700") == 1
    assert value(found, "received_bytes_total") == 1500
    assert value(found, "store_seconds_count") == 2
    assert value(found, "store_seconds_sum") == pytest.approx(0.32)
    assert value(found, "store_seconds_bucket", le="0.025") == 1


def test_two_receivers_in_one_process_count_apart() -> None:
    first, second = IntakeMetrics(), IntakeMetrics()
    first.association_opened()
    assert value(parse(first.text().decode()), "associations_total") == 1
    assert value(parse(second.text().decode()), "associations_total") == 0


def test_nothing_that_a_peer_sends_adds_a_time_series() -> None:
    metrics = IntakeMetrics()
    before = set(parse(metrics.text().decode()))
    for number, text in enumerate(HOSTILE):
        metrics.rejected(text)
        metrics.answered(0x1000 + number, 2**40)
    for status in range(0, 0x10000, 97):
        metrics.answered(status, 1)
    after = parse(metrics.text().decode())
    assert set(after) == before
    assert value(after, "rejections_total", reason="other") == len(HOSTILE)
    assert "SECRET" not in metrics.text().decode()


def test_a_hostile_calling_ae_title_reaches_no_metric(
    intake: Intake, connect: Callable[..., Sender], make_instance: Callable[..., Any]
) -> None:
    sender = connect(intake.receiver.port, calling='X"} evil 1')
    assert sender.store(make_instance(series_uid="1.2.3.4567")) == 0
    text = intake.receiver.metrics.text().decode()
    assert value(parse(text), "instances_total", status="0000") == 1
    assert not [word for word in ("evil", "1.2.3.4567", "SECRET", "127.0.0.1") if word in text]


def test_spool_and_ledger_are_looked_up_at_the_scrape(serve: Callable[..., str], spool: Spool, ledger: Ledger) -> None:
    now = datetime.now(UTC)
    note(ledger, "1.2.1", now - timedelta(hours=2))
    note(ledger, "1.2.2", now - timedelta(hours=1))
    note(ledger, "1.2.3", now - timedelta(hours=9))
    key = ledger.close("1.2.3")
    assert key is not None
    assert ledger.claim(key, 1, "worker", 60)
    assert ledger.finish(key, "worker", SeriesState.NO_TASK, "", ())
    ledger.close("1.2.2")
    metrics = IntakeMetrics()
    metrics.add(NodeState(spool, ledger, lambda: {"1.2.1"}))
    found = scrape(serve(metrics))
    assert value(found, "ledger_up") == 1
    states = {"receiving": 1, "complete": 1, "dispatched": 0, "delivered": 0, "no_task": 1, "failed": 0}
    assert {state: value(found, "series", state=state) for state in states} == states
    assert value(found, "oldest_open_series_seconds") == pytest.approx(7200, abs=60)
    assert value(found, "ledger_unflushed_series") == 1
    assert 0 < value(found, "spool_free_bytes") <= value(found, "spool_size_bytes")


def test_deliveries_are_counted_by_the_name_of_their_destination(
    serve: Callable[..., str], spool: Spool, ledger: Ledger
) -> None:
    for number, sender in enumerate(("CT1", "evil")):
        note(ledger, f"1.2.{number}", datetime.now(UTC))
        key = ledger.close(f"1.2.{number}")
        assert key is not None
        assert ledger.claim(key, 1, "worker", 60)
        parcels = [Parcel("liver", name, ("1.2",)) for name in ("pacs", f"back/{sender}")]
        assert ledger.finish(key, "worker", SeriesState.DELIVERING, "", (), parcels)
    metrics = IntakeMetrics()
    metrics.add(NodeState(spool, ledger, set))
    found = scrape(serve(metrics))
    assert value(found, "series", state="delivering") == 2
    assert value(found, "deliveries", destination="back", state="waiting") == 2, "a sender adds no time series"
    assert value(found, "deliveries", destination="pacs", state="dead_letter") == 0


def test_no_open_series_is_an_age_of_zero(serve: Callable[..., str], spool: Spool, ledger: Ledger) -> None:
    metrics = IntakeMetrics()
    metrics.add(NodeState(spool, ledger, set))
    assert value(scrape(serve(metrics)), "oldest_open_series_seconds") == 0


def test_a_broken_ledger_breaks_no_scrape(serve: Callable[..., str], spool: Spool, tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'broken.sqlite'}")
    with sqlite3.connect(tmp_path / "broken.sqlite") as connection:
        connection.execute("DROP TABLE series")
    connection.close()
    metrics = IntakeMetrics()
    metrics.add(NodeState(spool, ledger, set))
    found = scrape(serve(metrics))
    ledger.dispose()
    assert value(found, "ledger_up") == 0
    assert not names(found) & {"series", "oldest_open_series_seconds"}
    assert names(found) >= {"spool_free_bytes", "instances_total", "ledger_unflushed_series"}


class HangingLedger:
    """A ledger behind a network that swallows everything."""

    def __init__(self) -> None:
        self.asked = 0
        self.let_go = threading.Event()

    def counts(self) -> Any:
        self.asked += 1
        self.let_go.wait(30)
        raise RetryableError("ledger is out of reach: SECRET^PERSON")

    def oldest_open(self) -> Any:
        return self.counts()


def test_a_ledger_that_hangs_holds_no_scrape_up_and_is_asked_once(serve: Callable[..., str], spool: Spool) -> None:
    ledger: Any = HangingLedger()
    metrics = IntakeMetrics()
    metrics.add(NodeState(spool, ledger, set))
    url = serve(metrics, intake_checks(lambda: True, spool, ledger, 0))
    try:
        for _ in range(2):
            assert value(scrape(url), "ledger_up") == 0
        assert ledger.asked == 1
        answer = httpx.get(f"{url}/healthz", timeout=10)
        assert (answer.status_code, answer.json()["checks"]["ledger"]) == (503, "no answer within 2 s")
    finally:
        ledger.let_go.set()


def test_healthy_is_200(serve: Callable[..., str], spool: Spool, ledger: Ledger, intake: Intake) -> None:
    url = serve(checks=intake_checks(lambda: intake.receiver.is_listening, spool, ledger, 0))
    answer = httpx.get(f"{url}/healthz")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    checks = {"receiver": "ok", "spool": "ok", "ledger": "ok"}
    assert answer.json() == {"status": "ok", "checks": checks}
    left = [path.name for path in spool.root.rglob("*") if path.is_file()]
    assert left == ["receiver.lock"]  # the trial leaves nothing


def test_unhealthy_is_503_and_names_each_failing_check(
    serve: Callable[..., str], intake: Intake, tmp_path: Path
) -> None:
    intake.receiver.stop()
    ledger: Any = HangingLedger()
    ledger.let_go.set()
    checks = intake_checks(lambda: intake.receiver.is_listening, intake.spool, ledger, 2**40)
    answer = httpx.get(f"{serve(checks=checks)}/healthz")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "failing",
        "checks": {
            "receiver": "does not listen",
            "spool": "less space is free than min_free_mb",
            "ledger": "busy or out of reach",
        },
    }
    assert str(tmp_path) not in answer.text


def test_a_spool_that_takes_no_file_is_unhealthy(
    serve: Callable[..., str], tmp_path: Path, ledger: Ledger, eventually: Callable[..., Any]
) -> None:
    spool = Spool(tmp_path / "home" / "spool")
    url = serve(checks=intake_checks(lambda: True, spool, ledger, 0))
    assert httpx.get(f"{url}/healthz").status_code == 200
    spool.root.rename(tmp_path / "elsewhere")
    assert eventually(lambda: httpx.get(f"{url}/healthz").status_code == 503)
    spool.root.write_text("a file where the folder was")
    assert eventually(lambda: "cannot be written" in httpx.get(f"{url}/healthz").json()["checks"]["spool"])
    assert str(tmp_path) not in httpx.get(f"{url}/healthz").text
    spool.root.unlink()
    (tmp_path / "elsewhere").rename(spool.root)
    assert eventually(lambda: httpx.get(f"{url}/healthz").status_code == 200)


def test_a_check_that_fails_unexpectedly_is_named_by_its_kind_only(serve: Callable[..., str]) -> None:
    def broken() -> str | None:
        raise ValueError("/home/SECRET^PERSON")

    answer = httpx.get(f"{serve(checks={'spool': broken})}/healthz")
    assert (answer.status_code, answer.json()["checks"]) == (503, {"spool": "failed (ValueError)"})


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz/x", "/../metrics", "/METRICS", "/%2e"])
def test_other_pages_do_not_exist(serve: Callable[..., str], path: str) -> None:
    host, port = serve().removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert b" 404 " in connection.makefile("rb").readline()


def test_a_query_string_is_ignored(serve: Callable[..., str]) -> None:
    assert httpx.get(f"{serve()}/metrics?name=x").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "EVIL"])
def test_other_methods_are_not_allowed(serve: Callable[..., str], method: str) -> None:
    answer = httpx.request(method, f"{serve()}/metrics")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_head_is_the_headers_of_get(serve: Callable[..., str]) -> None:
    url = serve()
    head, get = httpx.head(f"{url}/healthz"), httpx.get(f"{url}/healthz")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))


def test_the_versions_that_run_here_are_not_told(serve: Callable[..., str]) -> None:
    assert httpx.get(f"{serve()}/healthz").headers["server"] == "fewshot-node"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"\x00\xff\xfe\n\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"G" * 100_000,
        b"GET /" + b"a" * 100_000,
        b"GET /metrics HTTP/1.1\r\nA" + b"a" * 100_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"",
    ],
)
def test_a_request_that_is_none_hurts_nobody(serve: Callable[..., str], request_bytes: bytes) -> None:
    url = serve()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError:
            pass  # reset, as somebody who sends too much may expect
    assert httpx.get(f"{url}/healthz").status_code == 200


def test_slow_clients_keep_nobody_out_and_take_few_threads(serve: Callable[..., str]) -> None:
    url = serve()
    host, port = url.removeprefix("http://").split(":")
    threads = threading.active_count()
    with ExitStack() as idle:
        for number in range(100):
            connection = idle.enter_context(socket.create_connection((host, int(port)), timeout=10))
            if number % 2:
                connection.sendall(b"GET /hea")
        started = time.monotonic()
        assert httpx.get(f"{url}/healthz", timeout=10).status_code == 200
        assert time.monotonic() - started < 2
        assert threading.active_count() - threads <= MAX_CONNECTIONS


def test_a_client_that_drips_is_cut_off(serve: Callable[..., str]) -> None:
    host, port = serve().removeprefix("http://").split(":")
    started = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=0.1) as connection:
        while not is_cut_off(connection):
            assert time.monotonic() < started + 10
    assert time.monotonic() - started > 2


def is_cut_off(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_flood_of_requests_asks_the_ledger_once_a_second(
    serve: Callable[..., str], spool: Spool, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    oldest_open = ledger.oldest_open
    monkeypatch.setattr(ledger, "oldest_open", lambda: asked.append(time.monotonic()) or oldest_open())
    url = serve(checks=intake_checks(lambda: True, spool, ledger, 0))
    started = time.monotonic()
    with httpx.Client() as client:
        for _ in range(50):
            assert client.get(f"{url}/healthz").status_code == 200
    assert len(asked) <= 1 + (time.monotonic() - started)


def test_without_a_port_nothing_is_served() -> None:
    with MonitorServer(MonitorSettings(), IntakeMetrics(), {}) as server:
        assert server.port is None


def test_a_port_that_is_taken_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{port} .* monitor\.port"):
            MonitorServer(MonitorSettings(port=port), IntakeMetrics(), {}).start()


def test_an_address_of_another_machine_names_the_settings() -> None:
    settings = MonitorSettings(host="192.0.2.1", port=0)
    with pytest.raises(ConfigurationError, match=r"monitor\.host"):
        MonitorServer(settings, IntakeMetrics(), {}).start()


def test_the_port_is_free_again_afterwards() -> None:
    with MonitorServer(LOCAL, IntakeMetrics(), {}) as server:
        port = server.port
        httpx.get(f"http://127.0.0.1:{port}/healthz")
    with MonitorServer(MonitorSettings(port=port), IntakeMetrics(), {}) as again:
        assert httpx.get(f"http://127.0.0.1:{again.port}/healthz").status_code == 200
