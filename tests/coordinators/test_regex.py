"""Regular expressions of strangers: RE2's syntax, the whole name, and a bound on what they cost."""

import pytest

from quorumlog.coordinators import regex
from quorumlog.coordinators.regex import TopicPatterns
from quorumlog.metadata.image import Image
from quorumlog.wire.errors import ClusterError, ErrorCode

from .consumer_stage import image_of


def image(*names: str) -> Image:
    return image_of(dict.fromkeys(names, 1))


def test_the_whole_name_is_matched() -> None:
    patterns = TopicPatterns()
    there = image("orders", "orders-v2", "reorders")
    assert patterns.topics("orders", there) == ("orders",)
    assert patterns.topics("orders.*", there) == ("orders", "orders-v2")


def test_topics_that_come_and_go_are_followed() -> None:
    patterns = TopicPatterns()
    assert patterns.topics("a.*", image("a", "b")) == ("a",)
    assert patterns.topics("a.*", image("a", "a2", "b")) == ("a", "a2")
    assert patterns.topics("a.*", image("a2")) == ("a2",)


@pytest.mark.parametrize("bad", ["[", "(", "a**b(", r"\1", "(?=a)", "x{1001}", r"[\pL]{200}.{200}"])
def test_what_re2_does_not_take_is_refused(bad: str) -> None:
    with pytest.raises(ClusterError, match="SubscribedTopicRegex") as refused:
        TopicPatterns().check(bad, image())
    assert refused.value.code is ErrorCode.invalid_regular_expression


@pytest.mark.parametrize(
    "good", ["", ".*", "^a|b$", "(a*)*b", r"[\w.-]+", "(?i)ORDERS", "|".join(f"topic-{n}" for n in range(500))]
)
def test_usual_expressions_are_taken(good: str) -> None:
    TopicPatterns().check(good, image("a"))


def test_an_expression_whose_matching_could_take_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "WORK_MAX", 10_000)
    there = image(*(f"topic-{number:03}" for number in range(50)))
    patterns = TopicPatterns()
    patterns.check("topic-.*", there)
    with pytest.raises(ClusterError, match="allowed are 10,000"):
        patterns.check(".*a.{90}", there)


def test_one_that_was_accepted_elsewhere_and_is_none_of_re2_matches_nothing() -> None:
    assert TopicPatterns().topics("(?=a)", image("a")) == ()


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "CACHED_MAX", 3)
    patterns = TopicPatterns()
    for number in range(10):
        assert patterns.topics(f"a{number}", image(f"a{number}")) == (f"a{number}",)
    assert len(patterns._matched) == 3
