"""Lines of JSON and the fields in them. What cannot be read is refused with the line, what was seen and what is allowed."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, NoReturn, TypeGuard

SHOWN_CHARACTERS = 60


class HistoryError(Exception):
    """A history that cannot be read. The message names the file, the line, what was seen and what is allowed."""


class Line(NamedTuple):
    """One line's object, and where it came from: "file.jsonl, line 7"."""

    place: str
    fields: dict[str, Any]

    def refuse(self, field: str, allowed: str) -> NoReturn:
        seen = shown(self.fields[field]) if field in self.fields else "missing"
        raise HistoryError(f'{self.place}: "{field}" is {seen}; it must be {allowed}')


def json_lines(lines: Iterable[str], name: str) -> Iterator[Line]:
    """The object of each line that is not blank. Raises HistoryError."""
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        place = f"{name}, line {number}"
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise HistoryError(f"{place}: {error}; seen {shown(text.strip())}; each line must be one JSON object") from error
        if not isinstance(fields, dict):
            raise HistoryError(f"{place}: seen {shown(fields)}; each line must be one JSON object")
        yield Line(place, fields)


def shown(value: object) -> str:
    """A value as it stands in JSON, short enough for a message."""
    text = value if isinstance(value, str) and value[:1] in "{[" else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def as_text(value: object) -> str:
    """A key or a value as the checker compares it: text as it is, anything else by its JSON form.

    Each text is kept once: a value is sent once, but read by many, and comparing it with itself costs nothing.
    """
    return sys.intern(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True))


def is_whole(value: object) -> TypeGuard[int]:
    """True for a JSON number without a fraction (JSON's true and false are numbers to Python)."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_offset(value: object) -> TypeGuard[int]:
    return is_whole(value) and value >= 0


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def are_records(records: object) -> TypeGuard[list[list[Any]]]:
    """True for [[OFFSET, VALUE], ...]."""
    return isinstance(records, list) and all(
        isinstance(record, list) and len(record) == 2 and is_offset(record[0]) for record in records
    )
