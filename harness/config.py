"""Typed, frozen configs: unknown fields are errors, and a digest names each config's content."""

import keyword
from collections.abc import Mapping
from typing import Any, ClassVar, Self, get_args

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from harness.errors import FieldError, nearest
from results.store.contract import digest as digest


class Config(BaseModel):
    """Base of every config: frozen, validated, no unknown field.

    A field that changes no number (a device, a path, a thread count) does not belong in a config.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    # Fields that a version after the first brought: left out of dumps while they have their default, so that configs
    # that do not use them keep their digests, and results of before are found.
    added_later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        idle = {name for name in self.added_later if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in dump(self).items() if name not in idle}

    @model_validator(mode="before")
    @classmethod
    def _spelled_none(cls, content: Any) -> Any:
        """Takes the word `none` for None where a field may be None: TOML and the command line have no other way."""
        if not isinstance(content, dict):
            return content
        optional = {name for name, field in cls.model_fields.items() if type(None) in get_args(field.annotation)}
        return {name: None if name in optional and value == "none" else value for name, value in content.items()}

    def digest(self) -> str:
        """16 hex digits that name this config's content, equal on every machine."""
        return digest(self.model_dump(mode="json"))

    def pinned(self) -> Self:
        """The config with the content of each file that it names, so that the digest tells of it; its children's here.

        `DataError` for a file that is missing.
        """
        children = {name: value.pinned() for name, value in self if isinstance(value, Config)}
        changed = {name: child for name, child in children.items() if child != getattr(self, name)}
        return self.replace(**changed) if changed else self

    @property
    def text_field(self) -> str | None:
        """The field that says how texts are read, which `--text` sets; None: no text is read."""
        return "text" if "text" in type(self).model_fields else None

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated like a new one; `ValidationError` if a rule breaks."""
        return type(self).model_validate({**dict(self), **changes})


def with_field(config: Config, path: str, value: Any, *, prefix: str = "") -> Config:
    """A copy of `config` with the field at the dotted `path` set to `value` (a string is parsed by the field's type).

    `prefix` is what stands before the path in messages (`etegrec.` of `etegrec.mu`).
    Raises `FieldError` for an unknown field, with the nearest known one, and for a value that breaks a rule.
    """
    head, _, rest = path.partition(".")
    known = type(config).model_fields
    head += "_" if keyword.iskeyword(head) else ""  # `lambda` is a word of Python's, so the field is `lambda_`
    if head not in known:
        raise FieldError(f"unknown field '{prefix}{path}'; {nearest(head, known)}", f"{prefix}{path}")
    if rest:
        child = getattr(config, head)
        if not isinstance(child, Config):
            raise FieldError(
                f"'{prefix}{head}' has no field '{rest}': it is a plain value, {child!r}", f"{prefix}{path}"
            )
        value = with_field(child, rest, value, prefix=f"{prefix}{head}.")
    try:
        return config.replace(**{head: value})
    except ValidationError as error:
        raise FieldError(f"{prefix}{path}={value!r}: {one_line(error)}", f"{prefix}{path}") from None


def to_toml(content: dict[str, Any]) -> str:
    """TOML text of nested plain values, None spelled `none`; what `merged` reads back."""

    def spelled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: spelled(child) for name, child in value.items()}
        return "none" if value is None else value

    return tomli_w.dumps(spelled(content))


def merged(config: Config, changes: Mapping[str, Any], *, prefix: str = "") -> Config:
    """A copy of `config` with a nested dict of changes applied (a TOML table); errors as in `with_field`.

    All changes are made at once, so that rules between fields see them together.
    """
    known = type(config).model_fields
    values: dict[str, Any] = {}
    for key, value in changes.items():
        name = key + "_" if keyword.iskeyword(key) else key
        if name not in known:
            raise FieldError(f"unknown field '{prefix}{key}'; {nearest(name, known)}", f"{prefix}{key}")
        child = getattr(config, name)
        if isinstance(value, Mapping):
            if not isinstance(child, Config):
                raise FieldError(
                    f"'{prefix}{name}' has no field '{next(iter(value), '')}': it is a plain value, {child!r}",
                    f"{prefix}{name}",
                )
            value = merged(child, value, prefix=f"{prefix}{name}.")
        values[name] = value
    try:
        return config.replace(**values)
    except ValidationError as error:
        plain = {f"{prefix}{name}": value for name, value in values.items() if not isinstance(value, Config)}
        table, (finding, *_) = prefix.rstrip("."), error.errors(include_url=False)
        field = next(iter(plain)) if len(plain) == 1 else table
        if finding["loc"]:  # a rule between fields has none
            field = f"{prefix}{finding['loc'][0]}"
        given = ", ".join(f"{name}={value!r}" for name, value in plain.items())
        raise FieldError(f"{given or table}: {one_line(error)}", field) from None


def one_line(error: ValidationError) -> str:
    """Pydantic's findings as one line: `field: what is wrong`, separated by semicolons, and what to do.

    Rules that are written as functions say that themselves.
    """
    findings = []
    for finding in error.errors(include_url=False):
        where = ".".join(map(str, finding["loc"]))
        message = finding["msg"].removeprefix("Value error, ")
        findings.append(f"{where}: {message}" if where else message)
    told_remedies = all(finding["type"] == "value_error" for finding in error.errors(include_url=False))
    return "; ".join(findings if told_remedies else [*findings, "choose another value"])
