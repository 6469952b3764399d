"""The topics that a group's regular expression names (KIP-848): the coordinator matches them, with RE2's syntax and speed.

A strange expression may not hold up everybody else: RE2 takes time in proportion to the text, whatever the pattern, and what an
expression may cost is bounded before anything is matched. Topics that come later are matched alone.
"""

from dataclasses import dataclass

import re2

from quorumlog.metadata.image import Image
from quorumlog.wire.errors import ClusterError, ErrorCode

PATTERN_MEMORY_BYTES_MAX = 256 * 1024
WORK_MAX = 200_000_000
"""Size of the compiled pattern times characters of all topic names: about 0.1 s for the worst of them, 10 ms for usual ones."""
CACHED_MAX = 1_000


@dataclass(slots=True)
class _Matched:
    pattern: re2._Regexp | None
    """None if it is none that RE2 takes: another coordinator accepted it."""
    names: frozenset[str]
    """Those that have been matched."""
    topics: frozenset[str]


class TopicPatterns:
    """What the expressions of all groups of a shard match, so that equal ones cost once. Owned by ConsumerGroups."""

    def __init__(self) -> None:
        self._matched: dict[str, _Matched] = {}
        self._source: object = None
        self._names: frozenset[str] = frozenset()

    def check(self, regex: str, image: Image) -> None:
        """Raises ClusterError for an expression that RE2 does not take, or one that would take too long."""
        if regex in self._matched:
            return
        pattern = _compiled(regex)
        work = pattern.programsize * sum(map(len, self._names_of(image)))
        if work > WORK_MAX:
            raise ClusterError(
                ErrorCode.invalid_regular_expression,
                f"SubscribedTopicRegex `{regex[:200]}` is too large for this cluster: matching it may take {work:,} steps, "
                f"allowed are {WORK_MAX:,}",
            )

    def topics(self, regex: str, image: Image) -> tuple[str, ...]:
        """The topics whose whole name it matches, in order. Kafka's own internal topics are no exception, as in Kafka."""
        names = self._names_of(image)
        matched = self._matched.get(regex) or self._add(regex)
        if matched.pattern is not None and matched.names is not names:
            fullmatch = matched.pattern.fullmatch
            found = frozenset(name for name in names - matched.names if fullmatch(name))
            matched.topics = (matched.topics & names) | found
            matched.names = names
        return tuple(sorted(matched.topics))

    def _add(self, regex: str) -> _Matched:
        if len(self._matched) >= CACHED_MAX:
            del self._matched[next(iter(self._matched))]
        try:
            pattern = _compiled(regex)
        except ClusterError:
            pattern = None
        matched = self._matched[regex] = _Matched(pattern, frozenset(), frozenset())
        return matched

    def _names_of(self, image: Image) -> frozenset[str]:
        if self._source is not image.topic_names:
            self._source = image.topic_names
            self._names = frozenset(image.topic_names.values())
        return self._names


def _compiled(regex: str) -> re2._Regexp:
    try:
        return re2.compile(regex, _options())
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ClusterError(
            ErrorCode.invalid_regular_expression,
            f"SubscribedTopicRegex `{regex[:200]}` is not a valid regular expression: {text[:200]}.",
        ) from None


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = PATTERN_MEMORY_BYTES_MAX
    return options
