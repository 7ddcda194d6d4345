"""What a client expects to find before it changes something: the headers If-Match and If-None-Match (RFC 9110)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import ParameterError, StaleError

ANY = "*"
ENTITY_TAGS = re.compile(r'\s*(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"\s*(?:,\s*(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"\s*)*')


@dataclass(frozen=True)
class Precondition:
    """Versions of which one must be there now (None: whatever is), and whether nothing may be there."""

    versions: frozenset[str] | None = None  # entity tags, or ANY
    nothing: bool = False

    def check(self, name: str, version: int | None) -> None:
        """Compares with the version that is there now, None where there is nothing.

        Raises:
            StaleError: it is another one.
        """
        if self.nothing and version is not None:
            raise StaleError(f"{name} is there already, version {version}, and If-None-Match expected nothing")
        if self.versions is None or (version is not None and self.versions & {ANY, entity_tag(version)}):
            return
        there = "is not there" if version is None else f"has version {version} by now"
        expected = ", ".join(sorted(self.versions))
        raise StaleError(f"{name} {there}, If-Match expected {expected}; read it again, then repeat the change")


def entity_tag(version: int) -> str:
    """The ETag of a version."""
    return f'"{version}"'


def read_precondition(headers: Mapping[str, str]) -> Precondition:
    """The precondition that a request's headers set, none as a rule.

    Raises:
        ParameterError: a header is not what RFC 9110 asks for.
    """
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    faults = []
    versions = None
    if match is not None:
        if match.strip() == ANY:
            versions = frozenset({ANY})
        elif ENTITY_TAGS.fullmatch(match):
            versions = frozenset(tag.strip() for tag in match.split(","))  # a weak one, W/"3", matches nothing
        else:
            faults.append(f'If-Match is {match!r}, expected the ETag that came with the defect, such as "3", or *')
    if none_match is not None and none_match.strip() != ANY:
        faults.append(f"If-None-Match is {none_match!r}, expected * (only create, replace nothing)")
    if faults:
        raise ParameterError("; ".join(faults))
    return Precondition(versions, none_match is not None)
