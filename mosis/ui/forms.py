"""HTML forms: application/x-www-form-urlencoded, validated with the same schemas as JSON bodies."""

from mosis.errors import MalformedRequest
from mosis.validation import Json, Schema, check
from mosis.web.request import read_form_pairs

TOKEN_FIELD = "form_token"


class Form:
    """The submitted fields of a form."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value.replace("\r\n", "\n"))

    def get(self, name: str) -> str:
        """A field; empty if it is missing or occurs more than once."""
        values = self._values.get(name, [])
        return values[0] if len(values) == 1 else ""

    def all(self, name: str) -> list[str]:
        """The values of checkboxes of one name."""
        return self._values.get(name, [])

    def checked(
        self, schema: Schema, *, trimmed: tuple[str, ...] = (), lists: tuple[str, ...] = ()
    ) -> Json:
        """The fields of the schema, validated. An empty field counts as missing; fields in
        `trimmed` lose surrounding spaces, those in `lists` may occur more than once. Raises
        Malformed for another repeated field, Invalid with every finding."""
        found: Json = {}
        for name in schema:
            values = self._values.get(name, [])
            if name in lists:
                if values or schema[name].get("required"):
                    found[name] = values
                continue
            if len(values) > 1:
                raise MalformedRequest(f"The form has `{name}` more than once.")
            value = values[0].strip() if values and name in trimmed else "".join(values)
            if value:
                found[name] = value
        return check(found, schema)


def read() -> Form:
    """The form of the running request. Raises Malformed, LimitReached."""
    return Form(read_form_pairs())
