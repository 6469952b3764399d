"""The cluster image and its controller."""

from quorumlog.metadata.image import Image

from .model import Model
from .sight import Invariant, Life, News


class ImagesAgree(Invariant):
    """Nodes that have applied the metadata log up to the same entry have equal images, however they came by them."""

    name = "images-agree"

    def __init__(self, model: Model) -> None:
        self._images: dict[int, tuple[Life, Image]] = {}  # by index, as the first node had it; they share most of what they hold

    def look(self, news: News) -> None:
        for life, _, image in news.images:
            first, expected = self._images.setdefault(image.index, (life, image))
            if expected is not image and expected != image:
                fields = [name for name in Image.__slots__ if getattr(expected, name) != getattr(image, name)]
                raise self.broken(f"{life} and {first} differ at index {image.index} in {', '.join(fields)}")


class ImagesGoForward(Invariant):
    """A process never goes back to an older image, nor to older partitions."""

    name = "images-go-forward"

    def __init__(self, model: Model) -> None:
        pass

    def look(self, news: News) -> None:
        for life, old, image in news.images:
            if image.index < old.index:
                raise self.broken(f"{life} went from index {old.index} back to {image.index}")
        for copy in news.copies:
            before, stand = copy.before, copy.stand
            if before is None:
                continue
            if stand.leader_epoch < before.leader_epoch or stand.partition_epoch < before.partition_epoch:
                raise self.broken(
                    f"{copy} went from leader epoch {before.leader_epoch}, partition epoch {before.partition_epoch} "
                    f"to {stand.leader_epoch}, {stand.partition_epoch}"
                )


class EpochsRise(Invariant):
    """In the committed metadata every change of a partition raises its partition epoch, a new leader its leader epoch; neither
    ever falls.
    """

    name = "epochs-rise"

    def __init__(self, model: Model) -> None:
        pass

    def look(self, news: News) -> None:
        for before, state in news.states:
            if before is None:
                continue
            is_led_anew = state.leader != before.leader
            if state.partition_epoch <= before.partition_epoch or state.leader_epoch < before.leader_epoch + is_led_anew:
                raise self.broken(f"{before} became {state}")


class OneControllerATerm(Invariant):
    """In a term one process is the active controller, and no other ever is."""

    name = "one-controller-a-term"

    def __init__(self, model: Model) -> None:
        self._active: dict[int, Life] = {}

    def look(self, news: News) -> None:
        for life, term in news.controllers:
            first = self._active.setdefault(term, life)
            if first != life:
                raise self.broken(f"{life} is the active controller in term {term}, and so was {first}")
