"""SQLite: connections and transactions, migrations, pagination."""

from mosis.database.connection import Connection
from mosis.database.database import SQLITE_VERSION, Database
from mosis.database.files import faults, has_full_text_search, has_tables, in_use, schema_number
from mosis.database.migrations import MigrationError, migrate, statements
from mosis.database.tables import Record, columns
from mosis.ids import new_id

__all__ = [
    "SQLITE_VERSION", "Connection", "Database", "MigrationError", "Record", "columns", "faults",
    "has_full_text_search", "has_tables", "in_use", "migrate", "new_id", "schema_number",
    "statements",
]  # fmt: skip
