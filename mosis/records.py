"""Dataclasses that cost next to nothing to import.

`dataclasses.dataclass` reads the annotations of each class and compiles up to eight methods while its
module is imported: for 140 classes that was two fifths of the time to import the portal. Here both
wait until the first object is made, or somebody asks for the fields.
"""

import dataclasses
import threading
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls: type | None = None, /, *, frozen: bool = False) -> Any:
        """As dataclasses.dataclass, whose other options and `__post_init__` are not supported."""
        if cls is None:
            return lambda each: dataclass(each, frozen=frozen)
        cls.__dataclass_fields__ = _Fields(cls)

        def values(record: Any) -> Any:
            nonlocal values
            names = [each.name for each in dataclasses.fields(cls)]
            values = attrgetter(*names) if names else lambda record: ()
            return values(record)

        def init(record: Any, *arguments: Any, **named: Any) -> None:
            cls.__init__ = _compiled_init(cls, frozen)
            cls.__init__(record, *arguments, **named)

        def is_equal(record: Any, other: Any) -> Any:
            if other.__class__ is not record.__class__:
                return NotImplemented
            return values(record) == values(other)

        cls.__init__, cls.__eq__, cls.__repr__ = init, is_equal, _shown
        cls.__hash__ = (lambda record: hash(values(record))) if frozen else None
        if frozen:
            cls.__setattr__ = cls.__delattr__ = _refuse
        return cls


class _Fields:
    """`__dataclass_fields__` of a class, made by `dataclasses` when they are first asked for."""

    _making = threading.RLock()  # `dataclasses` must not see a class twice

    def __init__(self, cls: type) -> None:
        self._cls = cls

    def __get__(self, record: Any, asked: type | None = None) -> Any:
        with self._making:
            if vars(self._cls)["__dataclass_fields__"] is self:
                dataclasses.dataclass(init=False, repr=False, eq=False)(self._cls)
            return vars(self._cls)["__dataclass_fields__"]


def _shown(record: Any) -> str:
    names = [each.name for each in dataclasses.fields(record)]
    values = ", ".join(f"{name}={getattr(record, name)!r}" for name in names)
    return f"{type(record).__qualname__}({values})"


def _refuse(record: Any, name: str, value: Any = None) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change {name!r}")


def _compiled_init(cls: type, frozen: bool) -> Any:
    """`__init__` with a parameter for each field, in their order."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_none": dataclasses.MISSING}
    parameters, lines = ["_self"], []
    for each in dataclasses.fields(cls):
        name = value = each.name
        if each.default is not dataclasses.MISSING:
            known[f"_{name}"] = each.default
            parameters.append(f"{name}=_{name}")
        elif each.default_factory is not dataclasses.MISSING:
            known[f"_{name}"] = each.default_factory
            parameters.append(f"{name}=_none")
            value = f"_{name}() if {name} is _none else {name}"
        else:
            parameters.append(name)
        lines.append(f"_set(_self, {name!r}, {value})" if frozen else f"_self.{name} = {value}")
    body = "\n ".join(lines) or "pass"
    code = f"def __init__({', '.join(parameters)}):\n {body}"
    exec(code, known)  # noqa: S102, as dataclasses does; only names of fields are in it
    known["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"
    return known["__init__"]
