"""From a frame to a handler and back: decode by the table, call, encode by the table.

`API_TABLE` is built from the handlers' own entries; what is not in it is not offered by ApiVersions either. A handler is a plain
function. Whatever must keep the order of arrival (the append of a produce) happens before it returns; what has to wait is
returned as an awaitable.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from quorumlog.host.ports import Buffer
from quorumlog.wire.catalogue import API_VERSIONS, api_name
from quorumlog.wire.codec import decode_request, encode_response
from quorumlog.wire.headers import RequestHeader, encode_response_header, read_request_header

from .services import Services

logger = logging.getLogger(__name__)


class BadRequest(ValueError):
    """A request that cannot be answered: Kafka's rule is to close the connection. The message is for the log."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a handler sees it."""

    version: int
    message: Any
    client_id: str | None
    client_host: str


Body = Any  # what the API's encoder takes: nested dicts for most; None where the client expects no answer
Result = Body | Awaitable[Body]
Decoder = Callable[[int, memoryview, int], Any]
Encoder = Callable[[int, Body], Sequence[Buffer]]


@dataclass(frozen=True, slots=True)
class Api:
    """One entry of the table. `decode(version, frame, position)` and `encode(version, body)` default to the schema codec."""

    key: int
    versions: range
    handle: Callable[[Services, Call], Result]
    decode: Decoder | None = None
    encode: Encoder | None = None

    @property
    def name(self) -> str:
        return api_name(self.key)


class Dispatcher:
    """Owned by the Kafka listener. Knows the table, and nothing of connections."""

    def __init__(self, services: Services, table: dict[int, Api]) -> None:
        self._services = services
        self._table = table
        self.requests: dict[str, int] = dict.fromkeys(sorted(api.name for api in table.values()), 0)
        self.refused = 0

    def dispatch(self, frame: memoryview, client_host: str) -> "Response | Awaitable[Response]":
        """Decode and handle one frame. Raises BadRequest or DecodeError if it cannot be answered."""
        header, position = read_request_header(frame)
        api = self._table.get(header.api_key)
        if api is None:
            raise BadRequest(f"{api_name(header.api_key)} (API key {header.api_key}) is not offered")
        self.requests[api.name] += 1
        if header.api_version not in api.versions:
            return self._unsupported(api, header)
        message = (api.decode or _schema_decoder(api.key))(header.api_version, frame, position)
        result = api.handle(self._services, Call(header.api_version, message, header.client_id, client_host))
        if asyncio.iscoroutine(result) or isinstance(result, asyncio.Future):
            return self._finish(api, header, result)
        return self._respond(api, header, result)

    async def _finish(self, api: Api, header: RequestHeader, result: Awaitable[Body]) -> "Response":
        return self._respond(api, header, await result)

    def _respond(self, api: Api, header: RequestHeader, body: Body) -> "Response":
        if body is None:
            return Response(())
        parts = (api.encode or _schema_encoder(api.key))(header.api_version, body)
        return Response((encode_response_header(api.key, header.api_version, header.correlation_id), *parts))

    def _unsupported(self, api: Api, header: RequestHeader) -> "Response":
        if api.key != API_VERSIONS:
            raise BadRequest(
                f"{api.name} version {header.api_version} is not offered; versions {api.versions[0]} to {api.versions[-1]} are"
            )
        result = api.handle(self._services, Call(header.api_version, None, header.client_id, ""))
        return Response((encode_response_header(api.key, 0, header.correlation_id), *api.encode(0, result)))  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Response:
    """Header and body, to be framed; empty where the client expects no answer."""

    parts: Sequence[Buffer]

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(map(len, self.parts))


def _schema_decoder(key: int) -> Decoder:
    return lambda version, frame, position: decode_request(key, version, frame, position)


def _schema_encoder(key: int) -> Encoder:
    return lambda version, body: (encode_response(key, version, body),)
