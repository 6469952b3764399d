"""From a frame to a handler and back."""

import asyncio
import struct
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest

from quorumlog.node.dispatch import Api, BadRequest, Call, Dispatcher, Response
from quorumlog.wire.catalogue import API_VERSIONS
from quorumlog.wire.codec import DecodeError, decode_response, encode_request
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.headers import RequestHeader, encode_request_header, read_response_header

DELETE_TOPICS = 20
OTHER = 19


def frame_of(key: int, version: int, body: dict[str, Any], correlation_id: int = 77) -> memoryview:
    return memoryview(
        encode_request_header(RequestHeader(key, version, correlation_id, "me")) + encode_request(key, version, body)
    )


def echo_names(_services: Any, call: Call) -> Any:
    return {"responses": [{"name": name, "error_code": ErrorCode.none} for name in call.message.topic_names]}


async def echo_later(services: Any, call: Call) -> Any:
    await asyncio.sleep(0)
    return echo_names(services, call)


def api_versions(_services: Any, call: Call) -> Any:
    return ErrorCode.none if call.message is not None else ErrorCode.unsupported_version


def dispatcher(handle: Any = echo_names) -> Dispatcher:
    table = {
        DELETE_TOPICS: Api(key=DELETE_TOPICS, versions=range(1, 6), handle=handle),
        API_VERSIONS: Api(
            key=API_VERSIONS,
            versions=range(5),
            handle=api_versions,
            encode=lambda version, code: (struct.pack(">hh", version, code),),
        ),
    }
    services: Any = SimpleNamespace()
    return Dispatcher(services, table)


def dispatch(what: Dispatcher, frame: memoryview) -> Response | Awaitable[Response]:
    return what.dispatch(frame, "10.0.0.1")


def joined(response: Any) -> bytes:
    assert isinstance(response, Response)
    assert response.size == sum(map(len, response.parts))
    return b"".join(response.parts)


@pytest.mark.parametrize("version", range(1, 6))
def test_an_answer_has_the_form_of_its_request(version: int) -> None:
    """Header and body in the version that was asked, with the number of the request."""
    answer = joined(dispatch(dispatcher(), frame_of(DELETE_TOPICS, version, {"topic_names": ["a", "b"]})))
    correlation_id, position = read_response_header(answer, DELETE_TOPICS, version)
    assert correlation_id == 77
    assert [topic.name for topic in decode_response(DELETE_TOPICS, version, answer, position).responses] == ["a", "b"]


def test_a_handler_may_answer_later() -> None:
    """The answer is the same, only not there yet."""

    async def run() -> None:
        frame = frame_of(DELETE_TOPICS, 3, {"topic_names": ["a"]})
        later = dispatch(dispatcher(echo_later), frame)
        assert not isinstance(later, Response)
        assert joined(await later) == joined(dispatch(dispatcher(), frame))

    asyncio.run(run())


def test_whoever_wants_no_answer_gets_none() -> None:
    """Neither a body nor a header."""
    assert joined(dispatch(dispatcher(lambda _services, _call: None), frame_of(DELETE_TOPICS, 1, {}))) == b""


@pytest.mark.parametrize(("key", "version"), [(OTHER, 2), (999, 0), (-1, 0), (DELETE_TOPICS, 0), (DELETE_TOPICS, 6)])
def test_what_is_not_offered_is_refused(key: int, version: int) -> None:
    """An unknown API, one that is not in the table, and a version beside its range; the sentence says which are offered."""
    frame = memoryview(struct.pack(">hhih", key, version, 1, -1) + b"\x00" * 20)
    what = dispatcher()
    with pytest.raises(BadRequest, match=r"versions 1 to 5 are" if key == DELETE_TOPICS else "is not offered"):
        dispatch(what, frame)


def test_only_api_versions_answers_what_it_does_not_know() -> None:
    """In version 0, so that a newer client can choose another; what else is in the frame is not looked at."""
    answer = joined(dispatch(dispatcher(), memoryview(struct.pack(">hhih", API_VERSIONS, 99, 5, -1) + b"\xff" * 30)))
    assert struct.unpack(">ihh", answer) == (5, 0, ErrorCode.unsupported_version)
    answer = joined(dispatch(dispatcher(), frame_of(API_VERSIONS, 3, {"client_software_name": "x"})))
    assert struct.unpack(">ihh", answer) == (77, 3, ErrorCode.none)


def test_a_broken_frame_reaches_no_handler() -> None:
    """Neither a cut header nor a cut body."""

    def handle(_services: Any, _call: Call) -> Any:
        raise AssertionError("called")

    frame = frame_of(DELETE_TOPICS, 4, {"topic_names": ["abc"]})
    for size in (0, 5, len(frame) // 2, len(frame) - 3):
        with pytest.raises(DecodeError):
            dispatch(dispatcher(handle), frame[:size])


def test_requests_are_counted_by_name() -> None:
    """Also those whose version is refused; what has no name in the table is not counted."""
    what = dispatcher()
    dispatch(what, frame_of(DELETE_TOPICS, 1, {}))
    with pytest.raises(BadRequest):
        dispatch(what, memoryview(struct.pack(">hhih", DELETE_TOPICS, 9, 1, -1)))
    with pytest.raises(BadRequest):
        dispatch(what, frame_of(OTHER, 2, {}))
    assert what.requests == {"api_versions": 0, "delete_topics": 2}
