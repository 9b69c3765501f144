"""Records behave as dataclasses do."""

import copy
import dataclasses
import pickle
import re
import threading
from dataclasses import field
from typing import Any

import pytest

import portal
from mosis.records import dataclass


@dataclass(frozen=True)
class Point:
    """Two numbers and a list."""

    x: int
    y: int = 2
    more: list[int] = field(default_factory=list)


@dataclass
class Counter:
    """One number."""

    n: int = 0


@dataclass(frozen=True)
class Nothing:
    """No fields."""


@dataclass(frozen=True)
class Named(Point):
    """With another field."""

    name: str = ""


@pytest.mark.parametrize(
    ("kind", "frozen", "arguments"),
    [
        (Point, True, ((1,), {})),
        (Point, True, ((1, 3), {"more": [4]})),
        (Point, True, ((), {"y": 5, "x": 6})),
        (Counter, False, ((), {})),
        (Counter, False, ((7,), {})),
        (Nothing, True, ((), {})),
        (Named, True, ((1, 2, [3]), {"name": "a"})),
    ],
)
def test_a_record_is_as_a_dataclass(
    kind: Any, frozen: bool, arguments: tuple[tuple[Any, ...], dict[str, Any]]
) -> None:
    given, named = arguments
    other = dataclasses.make_dataclass(
        kind.__name__,
        [(each.name, each.type, copy.copy(each)) for each in dataclasses.fields(kind)],
        frozen=frozen,
    )
    one, same, peer = kind(*given, **named), kind(*given, **named), other(*given, **named)
    assert repr(one) == repr(peer)
    assert dataclasses.asdict(one) == dataclasses.asdict(peer)
    assert dataclasses.astuple(one) == dataclasses.astuple(peer)
    assert vars(one) == vars(peer)
    assert one == same
    assert one != peer
    assert one.__eq__(peer) is NotImplemented
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    assert dataclasses.replace(one) == one
    assert kind.__match_args__ == other.__match_args__
    assert (kind.__hash__ is None) == (other.__hash__ is None)


def test_values_decide_about_equality_and_hash() -> None:
    assert Named(1) != Named(2)
    assert Named(1) != Point(1)
    assert Nothing() == Nothing()
    assert len({Nothing(), Nothing()}) == 1

    @dataclass(frozen=True)
    class Pair:
        """Two values."""

        a: int
        b: str

    assert len({Pair(1, "a"), Pair(1, "a"), Pair(1, "b")}) == 2
    assert Point(1).more is not Point(1).more


def test_a_frozen_record_does_not_change() -> None:
    for change in (lambda record: setattr(record, "x", 2), lambda record: delattr(record, "x")):
        point = Point(1)
        with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
            change(point)
        assert point == Point(1)
    counter = Counter()
    counter.n += 1
    assert counter == Counter(1)


@pytest.mark.parametrize("first", [True, False], ids=["first object", "later object"])
def test_wrong_arguments_are_a_type_error(first: bool) -> None:
    @dataclass(frozen=True)
    class Single:
        """One value."""

        a: int

    if not first:
        Single(1)
    with pytest.raises(TypeError, match=r"Single.__init__\(\) missing 1 required"):
        Single()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword"):
        Single(1, b=2)  # type: ignore[call-arg]


def test_threads_may_make_the_first_objects_at_once() -> None:
    for _ in range(20):

        @dataclass(frozen=True)
        class Single:
            """One value, and a list of its own."""

            a: int
            more: list[int] = field(default_factory=list)

        made: list[Any] = []
        together = threading.Barrier(4)

        def work(number: int, kind: Any = Single, made: Any = made, all_: Any = together) -> None:
            all_.wait(60)
            made.append(kind(number))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert {each.a for each in made} == {0, 1, 2, 3}
        assert all(each.more == [] for each in made)


def test_the_fields_are_read_when_they_are_first_asked_for() -> None:
    @dataclass
    class Base:
        """One field."""

        a: int = 1

    @dataclass
    class Further(Base):
        """Another one, declared before anybody has asked for those of its base."""

        b: list[int] = field(default_factory=list)

    assert not isinstance(vars(Base)["__dataclass_fields__"], dict)
    assert not isinstance(vars(Further)["__dataclass_fields__"], dict)
    assert [each.name for each in dataclasses.fields(Further)] == ["a", "b"]
    assert isinstance(vars(Base)["__dataclass_fields__"], dict)
    assert dataclasses.is_dataclass(Base)
    assert Further(2) == Further(a=2, b=[])


def test_every_class_of_values_is_a_record() -> None:
    for path in sorted((portal.HERE / "mosis").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert path.name == "records.py" or not re.search(
            r"^from dataclasses import .*\bdataclass\b", text, re.MULTILINE
        ), path
