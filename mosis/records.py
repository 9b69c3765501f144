"""Dataclasses that cost next to nothing to import.

`dataclasses.dataclass` compiles up to eight methods of each class while its module is imported: for
130 classes that was two fifths of the time to import the portal. Here `__init__` is compiled when the
first object is made, and the other methods are shared.
"""

import dataclasses
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls: type | None = None, /, *, frozen: bool = False) -> Any:
        """As dataclasses.dataclass, whose other options and `__post_init__` are not supported."""
        if cls is None:
            return lambda each: dataclass(each, frozen=frozen)
        dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
        names = [each.name for each in dataclasses.fields(cls)]
        values = attrgetter(*names) if names else lambda record: ()

        def init(record: Any, *arguments: Any, **named: Any) -> None:
            fields = [(each.name, each.type, each) for each in dataclasses.fields(cls)]
            made = dataclasses.make_dataclass(
                cls.__name__, fields, namespace={"__doc__": ""}, repr=False, eq=False, frozen=frozen
            )
            cls.__init__ = made.__init__
            made.__init__(record, *arguments, **named)

        def is_equal(record: Any, other: Any) -> Any:
            if other.__class__ is not record.__class__:
                return NotImplemented
            return values(record) == values(other)

        cls.__init__, cls.__eq__, cls.__repr__ = init, is_equal, _shown
        cls.__hash__ = (lambda record: hash(values(record))) if frozen else None
        if frozen:
            cls.__setattr__ = cls.__delattr__ = _refuse
        return cls


def _shown(record: Any) -> str:
    names = [each.name for each in dataclasses.fields(record)]
    values = ", ".join(f"{name}={getattr(record, name)!r}" for name in names)
    return f"{type(record).__qualname__}({values})"


def _refuse(record: Any, name: str, value: Any = None) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change {name!r}")
