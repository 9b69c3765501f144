"""Rows of tables as dataclasses."""

from dataclasses import fields
from functools import cache
from typing import ClassVar, TypeVar


class Record:
    """`class Webhook(Record, table="webhooks")` is a dataclass; its fields are the SELECT list."""

    table: ClassVar[str]

    def __init_subclass__(cls, table: str) -> None:
        cls.table = table


Stored = TypeVar("Stored", bound=Record)


@cache
def columns(record: type, table: str = "") -> str:
    """The SELECT list of a dataclass: its fields in order, each prefixed with `table` if given."""
    prefix = f"{table}." if table else ""
    return ", ".join(prefix + each.name for each in fields(record))


def select(record: type[Record], where: str) -> str:
    """The SELECT of a record's rows that meet a condition."""
    fields_of: type = record  # a class is hashable, whatever mypy says of type[Record]
    return f"SELECT {columns(fields_of)} FROM {record.table} WHERE {where}"
