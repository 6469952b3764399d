"""An API asked as a client asks it: from bytes to bytes, through the handler that the node has for it."""

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any, cast

from quorumlog.node.api_table import API_TABLE
from quorumlog.node.dispatch import Call
from quorumlog.node.services import Services
from quorumlog.wire.codec import decode_request, decode_response, encode_request, encode_response


def ask(services: Any, key: int, version: int, body: dict[str, Any]) -> Any:
    """`services`: as much of `Services` as the handler looks at."""
    message = decode_request(key, version, encode_request(key, version, body))

    async def answer() -> Any:
        result = API_TABLE[key].handle(cast(Services, services), Call(version, message, "client", "10.0.0.1"))
        return await cast(Awaitable[Any], result) if inspect.isawaitable(result) else result

    return decode_response(key, version, encode_response(key, version, asyncio.run(answer())))
