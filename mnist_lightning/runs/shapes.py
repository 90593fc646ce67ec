"""What a file of a run must hold, since anyone may have written or changed it."""

import math
import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, NamedTuple

from mnist_lightning.parsing.words import short


class Number(NamedTuple):
    """A finite number with its bounds.

    Args:
        above: It is greater than this.
        most: It is this at most.
        whole: Whether it has no fraction.
    """

    above: float = -math.inf
    most: float = 1e15  # what is more has overflowed somewhere
    whole: bool = False

    def __str__(self) -> str:
        bounds = [f"above {self.above:g}"] * (self.above > -math.inf) + [f"up to {self.most:g}"] * (self.most < 1e15)
        return " ".join(["a whole number" if self.whole else "a number", " and ".join(bounds)]).strip()

    def has(self, value: object) -> bool:
        kinds = int if self.whole else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and self.above < value <= self.most


class OrNone(NamedTuple):
    """A value of a shape, or none."""

    shape: Any


def misfits(value: object, shape: Any, place: str = "") -> Iterator[str]:
    """What of a value, as JSON or YAML give it, has another shape, a sentence without its full stop each.

    Args:
        value: The value.
        shape: A `Number`; an `OrNone`; a pattern, for a text that it matches; a list of one shape, for a list of such values;
            a mapping of shapes by name, for a mapping that has these names (with `?` at its end a name may be missing, and
            `*` stands for all other names); or a type, or a union of types.
        place: Where the value is, in words.
    """
    match shape, value:
        case OrNone(), None:
            pass
        case OrNone(inner), _:
            yield from misfits(value, inner, place)
        case Number(), _ if not shape.has(value):
            yield f"{place} is {short(value)}, which is not {shape}"
        case re.Pattern(), _ if not (isinstance(value, str) and shape.fullmatch(value)):
            yield f"{place} is {short(value)}, which is none"
        case [inner], list():
            for number, part in enumerate(value):
                yield from misfits(part, inner, f"{place}[{number}]")
        case [_], _:
            yield f"{place} is {short(value)}, which is no list"
        case Mapping(), Mapping():
            yield from _misfits_in(value, shape, f"{place}." * bool(place))
        case Mapping(), _:
            yield f"{place or 'the whole'} is {short(value)}, which has no names"
        case type() | UnionType(), _ if not isinstance(value, shape):
            yield f"{place} is {short(value)}, which is no {getattr(shape, '__name__', shape)}"


def _misfits_in(value: Mapping[Any, Any], shape: Mapping[str, Any], place: str) -> Iterator[str]:
    named = {name.removesuffix("?"): inner for name, inner in shape.items() if name != "*"}
    for name in named:
        if name not in value and f"{name}?" not in shape:
            yield f"{place}{name} is missing"
    for name, part in value.items():
        inner = named.get(name, shape.get("*"))
        if inner is not None:
            yield from misfits(part, inner, f"{place}{name}")
