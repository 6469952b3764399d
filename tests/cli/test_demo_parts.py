"""The demo's parts by themselves: orders, the ledger, waits, and the judge against a simple twin."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.cli.order_check import Judge, Verdict, read_back
from quorumlog.cli.order_stream import FailOver, Ledger, OrderStream, Wait
from quorumlog.cli.orders import Order, OrdersError, count_orders_in, event_number, made_up_orders, orders_in
from tests.cli.conftest import Run


def order(number: int) -> Order:
    return Order(number, f"c{number % 3}", {"total": number * 2})


def ledger_of(count: int, unacknowledged: frozenset[int] = frozenset()) -> Ledger:
    ledger = Ledger()
    for number in range(count):
        ledger.add(number, order(number).value)
        ledger.is_acknowledged[number] = number not in unacknowledged
    return ledger


def twin_verdict(count: int, unacknowledged: frozenset[int], records: list[int]) -> Verdict:
    """The same judgment by whole lists: last one seen per key among first sightings, multiplicities, set difference."""
    copies = Counter(records)
    firsts = list(dict.fromkeys(records))
    in_order: dict[int, list[int]] = {0: [], 1: [], 2: []}
    misplaced = 0
    for number in firsts:
        mine = in_order[number % 3]
        if mine and number < max(mine):
            misplaced += 1
        else:
            mine.append(number)
    lost = set(range(count)) - unacknowledged - set(firsts)
    return Verdict(len(records), len(lost), sum(copies.values()) - len(copies), misplaced, altered=0)


@given(st.data())
def test_judge_agrees_with_its_twin(data: st.DataObject) -> None:
    """Lost, doubled and misplaced orders are counted as by hand, whatever the log holds."""
    count = data.draw(st.integers(0, 12))
    numbers = st.integers(0, max(count - 1, 0))
    unacknowledged = frozenset(data.draw(st.sets(numbers)))
    records = data.draw(st.lists(numbers, max_size=20)) if count else []
    judge = Judge(ledger_of(count, unacknowledged))
    for number in records:
        judge.on_record(order(number).customer.encode(), order(number).value)
    assert judge.finish() == twin_verdict(count, unacknowledged, records)


@pytest.mark.parametrize("value", [b"", b"nonsense", b'{"event": x, "a": 1}', b'{"event": 99, "total": 198}', b'{"event": 1}'])
def test_bytes_that_were_never_sent_are_altered(value: bytes) -> None:
    """A record that differs in one bit from what was sent is no proof that the order arrived."""
    judge = Judge(ledger_of(3))
    judge.on_record(b"c1", value)
    judge.on_record(b"c1", order(1).value.replace(b"2", b"3"))
    verdict = judge.finish()
    assert (verdict.altered, verdict.lost, verdict.is_good) == (2, 3, False)


def test_an_order_without_an_answer_may_be_there_or_not() -> None:
    """Only what was acknowledged is promised."""
    for records in ([0, 2], [0, 1, 2]):
        judge = Judge(ledger_of(3, frozenset({1})))
        for number in records:
            judge.on_record(order(number).customer.encode(), order(number).value)
        assert judge.finish().is_good


def test_wait_counts_only_while_something_is_outstanding() -> None:
    """An idle producer does not wait; a silent cluster makes it wait from its last answer on."""
    wait = Wait()
    wait.on_sent(10.0)
    wait.on_answered(10.5)
    wait.on_sent(20.0)
    wait.on_sent(20.1)
    wait.on_answered(20.2)
    wait.on_answered(21.0)
    assert wait.longest_s == pytest.approx(0.8)
    assert wait.outstanding == 0


def test_fail_over_ends_with_an_order_sent_after_it_began() -> None:
    """An answer that was under way when the leader died proves nothing."""
    fail_over = FailOver(began_s=5.0, first_order=100, pending={0, 3})
    fail_over.on_acknowledged(0, 99, 5.1)
    fail_over.on_acknowledged(1, 100, 5.2)
    fail_over.on_acknowledged(0, 100, 5.5)
    fail_over.on_acknowledged(0, 101, 5.6)
    assert (fail_over.pending, fail_over.took_s) == ({3}, {0: 0.5})


def test_made_up_orders_are_the_same_each_time() -> None:
    """A seed decides them; each is unlike all others and says its number."""
    orders = list(made_up_orders(500))
    assert orders == list(made_up_orders(500)) != list(made_up_orders(500, seed=2))
    assert [event_number(order.value) for order in orders] == list(range(500))
    assert 100 < len({order.customer for order in orders}) < 500
    assert all(json.loads(order.value)["customer"] == int(order.customer) for order in orders)


def test_orders_of_a_file(tmp_path: Path) -> None:
    """All rows in order, compressed or not, with all columns, keyed by the customer, who may be missing."""
    rows = 'InvoiceNo,Description,CustomerID\n1,"Häkel, rot",17850\n1,"two\nlines",17850\n2,plain,\n'
    for path, content in ((tmp_path / "a.csv", rows.encode()), (tmp_path / "a.csv.gz", gzip.compress(rows.encode()))):
        path.write_bytes(content)
        orders = list(orders_in(path))
        assert [order.customer for order in orders] == ["17850", "17850", ""]
        expected = {"event": 1, "InvoiceNo": "1", "Description": "two\nlines", "CustomerID": "17850"}
        assert json.loads(orders[1].value) == expected
        assert 3 <= count_orders_in(path) <= 4
        assert len(list(orders_in(path, count_max=2))) == 2


@pytest.mark.parametrize(
    "content", [b"", b"a,b\n1,2\n", b"\xff\xfe\n", gzip.compress(b"CustomerID\n" + b"1\n" * 9999)[:-20], b"not gzip"]
)
def test_files_that_are_no_orders(run: Run, tmp_path: Path, content: bytes) -> None:
    """A usage error that names the file, before anything is started."""
    path = tmp_path / ("events.csv.gz" if content[:2] == b"\x1f\x8b" or content == b"not gzip" else "events.csv")
    path.write_bytes(content)
    with pytest.raises(OrdersError, match=r"events\.csv"):
        count_orders_in(path)
    result = run("demo", "--events", path)
    assert result.exit_code == 2 and "events.csv" in result.output.replace("\n", "")


def test_stream_and_read_back(mock_cluster: str) -> None:
    """What the producers acknowledge is what the judge finds, in order; then a forged acknowledgment is found missing."""
    stream = OrderStream(mock_cluster, "stream", made_up_orders(600), pace=1e6)
    stream.start()
    assert stream.join(20)
    assert (stream.sent, stream.acknowledged, stream.failed) == (600, 600, 0)
    assert all(wait.longest_s > 0 and wait.outstanding == 0 for wait in stream.waits)
    verdict = read_back(mock_cluster, "stream", stream.ledger)
    assert verdict == Verdict(read=600)
    stream.ledger.add(600, b"never sent")
    stream.ledger.is_acknowledged[600] = 1
    assert read_back(mock_cluster, "stream", stream.ledger) == Verdict(read=600, lost=1)


def test_stream_reports_what_it_died_of(mock_cluster: str) -> None:
    """An error in the thread that sends is the demo's error, not silence."""

    def broken() -> object:
        yield order(0)
        raise OSError("the file ended")

    stream = OrderStream(mock_cluster, "broken", broken(), pace=1e6)  # type: ignore[arg-type]
    stream.start()
    with pytest.raises(OSError, match="the file ended"):
        stream.join(10)
