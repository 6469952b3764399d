"""A controller under test, with a clock that the test moves."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from quorumlog.metadata.controller import Controller, ControllerConfig
from quorumlog.metadata.image import Image
from tests.metadata.given import uuid

ControllerOf = Callable[..., Controller]


@pytest.fixture
def controller_of() -> ControllerOf:
    """Make a controller on an image, at time 0; topic ids are 0x1000, 0x1001, ..."""

    def make(image: Image, **config: Any) -> Controller:
        ids = count(0x1000)
        return Controller(image, now=0.0, config=ControllerConfig(**config), new_uuid=lambda: uuid(next(ids)))

    return make
