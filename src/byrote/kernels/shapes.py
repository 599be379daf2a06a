"""Images of one shape, to be worked on together."""

from collections.abc import Iterator, Sequence

from numpy import ndarray


def alike(images: Sequence[ndarray], most: int) -> Iterator[list[int]]:
    """Yield the places of images of one shape, at most `most` together; every place once."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        shapes.setdefault(image.shape, []).append(place)
    for places in shapes.values():
        yield from (places[i : i + most] for i in range(0, len(places), most))
