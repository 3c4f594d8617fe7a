"""Errors of a configuration: where, what, and what to do next."""


class ConfigError(Exception):
    """The configuration cannot be used; ``place`` is a flag, a variable, or a key's full path."""

    def __init__(self, place: str, what: str, next_step: str) -> None:
        super().__init__(f"{place}: {what}; {next_step}")
        self.place = place
        self.what = what
        self.next_step = next_step


class NoRole(ConfigError):
    """No role is configured."""


def shown(value: object) -> str:
    """Return *value* as an error may show it: one line of ASCII, cut at 100 characters."""
    text = ascii(value)
    return text if len(text) <= 100 else text[:97] + "..."
