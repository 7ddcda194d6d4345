"""Who makes a change, as its history keeps it: the key's name where keys are required, which nobody can forge."""

from fastapi import Request

from gateway.access.key import Key
from gateway.errors import ParameterError

HEADER = "X-Actor"
ANONYMOUS = "anonymous"
MAX_CHARACTERS = 100


def actor_of(request: Request) -> str:
    """`line-3`, or `line-3: Zhang` where X-Actor says who; without a key X-Actor alone, or nobody in particular.

    Raises:
        ParameterError: X-Actor is empty, too long or not printable.
    """
    key: Key | None = request.state.key
    given = request.headers.get(HEADER)
    if given is None:
        return key.name if key else ANONYMOUS
    try:
        who = given.encode("latin-1").decode("utf-8")  # HTTP carries it as Latin-1 whatever it is
    except UnicodeDecodeError:
        raise ParameterError(f"{HEADER} is not UTF-8; send it in UTF-8") from None
    prefix = f"{key.name}: " if key else ""
    return prefix + checked_name(who, HEADER, MAX_CHARACTERS - len(prefix))


def checked_name(given: str, what: str, limit: int = MAX_CHARACTERS) -> str:
    """A name for the history, without spaces around it; `what` says where it came from.

    Raises:
        ParameterError: it is empty, too long or not printable.
    """
    who = given.strip()
    if not 1 <= len(who) <= limit or not who.isprintable():
        raise ParameterError(f"{what} is {who!r}, expected 1 to {limit} printable characters")
    return who
