"""Passwords and tokens in texts that others wrote: command lines and addresses.

Every pattern takes time that grows with the length of the text and no faster: the text may be made to hold up the recorder.

What is taken for a secret is what its name, its place or its form shows to be one; `UNKNOWABLE` says what that cannot find.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

HIDDEN: Final = "***"

UNKNOWABLE: Final = (
    "arguments without an option name (a bare password, a prompt), values of one-letter options, and names of files "
    "are recorded as they are"
)
"""What `hidden` leaves in a command line."""

SECRET_WORDS: Final = frozenset(
    [
        "password",
        "passwd",
        "passphrase",
        "passcode",
        "pass",
        "pwd",
        "pw",
        "secret",
        "secrets",
        "token",
        "apikey",
        "credential",
        "credentials",
        "creds",
        "cred",
        "auth",
        "authorization",
        "cookie",
        "cookies",
        "bearer",
        "otp",
        "totp",
        "signature",
        "sig",
        "sas",
    ]
)
"""The last word of a name that makes its value a secret."""
ENDINGS: Final = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "credentials",
    "accesskey",
    "secretkey",
    "pwd",
    "auth",
)
"""The same where words are written together: `PGPASSWORD`, `hftoken`."""
KEYS: Final = frozenset(
    [
        "api",
        "access",
        "secret",
        "private",
        "auth",
        "encryption",
        "signing",
        "account",
        "shared",
        "storage",
        "master",
        "aes",
        "client",
        "service",
        "subscription",
        "license",
        "app",
        "ssh",
    ]
)
"""Words before `key`: alone it is a key to sort by as often as one to a door."""
NO_SECRET_TOKENS: Final = frozenset(
    [
        "eos",
        "bos",
        "pad",
        "stop",
        "unk",
        "sep",
        "cls",
        "mask",
        "image",
        "special",
        "start",
        "end",
        "max",
        "min",
        "num",
        "per",
        "new",
        "first",
        "last",
        "next",
        "no",
        "with",
    ]
)
"""Words before `token` that make it one of a text."""

WORDS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
NAME_AND_VALUE: Final = re.compile(r"""(?<![\w.-])-*(?P<name>[A-Za-z_][\w.-]*)(?P<between>["']?[ \t]*[=:]\s*)""")
"""`name=`, `name: `, `"name": `, anywhere in a text."""
VALUE: Final = re.compile(r"""(?P<value>"[^"]*"?|'[^']*'?|[^\s&;,"'}]+)""")
AT_START: Final = re.compile(r"(?P<name>[-+/]{0,2}[A-Za-z_][\w.-]*)(?P<between>\s*[=:]\s*)(?P<value>.+)", re.DOTALL)
"""The same as the whole of an argument: the value may hold anything."""
BEHIND: Final = re.compile(
    r"""(?<!\S)(?P<name>--?[A-Za-z][\w.-]*)(?P<between>\s+)(?P<value>"[^"]*"?|'[^']*'?|[^\s-]\S*)"""
)
"""`--name value` in an argument that is a command line of its own."""
SCHEME: Final = re.compile(r"\b(?:bearer|basic|negotiate|digest)\s+[\w.~+/=:-]{4,}", re.IGNORECASE)
"""What follows `Authorization:`."""
HEADER: Final = re.compile(r"""(?P<name>(?:authorization|cookie)\s*:\s*)[^'"\r\n]+""", re.IGNORECASE)
FORMS: Final = re.compile(
    r"""gh[opsur]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|\bsk-[\w-]{16,}|xox[a-z]-[\w-]{8,}
    |\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{12,}|AIza[\w-]{30,}|ya29\.[\w-]{16,}|\beyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?|npm_\w{30,}|pypi-[\w-]{30,}
    |dckr_pat_[\w-]{16,}|\bSG\.[\w-]{16,}\.[\w-]{16,}|nvapi-[\w-]{16,}|gsk_\w{16,}|\br8_\w{16,}|-----BEGIN[ A-Z]*PRIVATE\ KEY-----.*
    """,
    re.VERBOSE | re.DOTALL,
)
"""Tokens that services give out, which say so by how they begin."""
ADDRESS: Final = re.compile(r"""(?<![A-Za-z0-9+.-])(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<rest>[^\s"'<>]*)""")
ALONE: Final = re.compile(r"[^\s/:@]*:(?!//)\S+@(?!sha\d)[\w.-]+(?::\d+)?(?:/\S*)?")
"""`user:password@host`, which proxies are given as."""
USERS: Final = re.compile(r"-{1,2}(?:u|U|user|proxy-user|basic-auth|basic)")
"""Options whose value is `user:password`."""
USER_GIVEN: Final = re.compile(rf"(?<!\S)(?P<user>(?:{USERS.pattern}(?:\s+|=)|-[uU])[^\s:/=]+):(?!//)\S+")
"""One of them with its value, in one argument."""


def hidden(argv: Sequence[str]) -> list[str]:
    """Return a command line with what can be known to be a password or token replaced by `***`."""
    words: list[str] = []
    awaited = users = False
    for word in argv:
        is_option = word.startswith("-") and len(word) > 1
        if awaited and not word.startswith("--"):
            words.append(HIDDEN)
        elif users and ":" in word and not is_option and "/" not in word.partition(":")[0]:
            words.append(f"{word.partition(':')[0]}:{HIDDEN}")
        else:
            words.append(_in_word(word))
        awaited = is_option and _is_bare(word) and is_secret(word)
        users = USERS.fullmatch(word) is not None
    return words


def is_secret(name: str) -> bool:
    """Return whether the value of an option, variable or header of this name is a secret."""
    words = [each.lower() for each in WORDS.findall(name)]
    if not words:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in ("key", "keys"):
        return before in KEYS
    if last == "id":  # AWSAccessKeyId names a key, and does not open
        return False
    if (last == "token" and before in NO_SECRET_TOKENS) or before == "no":
        return False
    return (
        last in SECRET_WORDS or last.endswith(ENDINGS) or "".join(words).endswith(("apikey", "accesskey", "secretkey"))
    )


def _is_bare(word: str) -> bool:
    return re.fullmatch(r"--?[A-Za-z][\w.-]*", word) is not None


def _in_word(word: str) -> str:
    assignment = AT_START.fullmatch(word)
    if (
        assignment
        and not is_secret(assignment["name"])
        and assignment["between"] == "="
        and not USERS.fullmatch(assignment["name"])
    ):
        return f"{assignment['name']}={_argument(assignment['value'])}"
    return _argument(word)


def _argument(value: str) -> str:
    assignment = AT_START.fullmatch(value)
    if assignment and is_secret(assignment["name"]):
        return assignment["name"] + assignment["between"] + HIDDEN
    return HIDDEN + value[value.rindex("@") :] if ALONE.fullmatch(value) else in_text(value)


def in_text(text: str) -> str:
    """Return a text with what can be known to be a password or token replaced by `***`."""
    text = ADDRESS.sub(lambda match: match["scheme"] + _address(match["rest"]), text)
    text = HEADER.sub(lambda match: match["name"] + HIDDEN, text)
    text = FORMS.sub(HIDDEN, text)
    text = USER_GIVEN.sub(lambda match: f"{match['user']}:{HIDDEN}", text)
    text = SCHEME.sub(lambda match: f"{match[0].split()[0]} {HIDDEN}", text)
    if any(each.isspace() for each in text):
        text = BEHIND.sub(_value_hidden, text)
    return _secrets_hidden(text)


def _value_hidden(match: re.Match[str]) -> str:
    value = HIDDEN if is_secret(match["name"]) else match["value"]
    return match["name"] + match["between"] + value


def _secrets_hidden(text: str) -> str:
    parts: list[str] = []
    position = 0
    for match in NAME_AND_VALUE.finditer(text):
        if match.start() >= position and is_secret(match["name"]) and (value := VALUE.match(text, match.end())):
            parts += (text[position : match.end()], HIDDEN)
            position = value.end()
    return "".join((*parts, text[position:]))


def without_user_info(address: str) -> str:
    """Return an address (`http://user:password@host/path`) without user and password, wherever the password has a slash."""
    scheme, separator, location = address.partition("://")
    if not separator:
        return address.rpartition("@")[2] if ":" in address.partition("@")[0] else address
    return scheme + separator + location[_end_of_user_info(location) :]


def _address(location: str) -> str:
    end = _end_of_user_info(location)
    return f"{HIDDEN}@{location[end:]}" if end else location


def _end_of_user_info(location: str) -> int:
    """Return where user and password end in an address behind its scheme; 0 if there are none.

    A slash in a password should be written as %2F and often is not: what stands before it looks like a host and its port then,
    but for a port that is no number, or a path that begins with what is no path of a repository.
    """
    authority = location.partition("/")[0]
    if "@" in authority and ":" not in authority.partition("@")[0]:
        return authority.rindex("@") + 1
    if "@" not in location:
        return 0
    repository = location.find("/cvmfs/")
    before = location if repository < 0 or "@" not in location[:repository] else location[:repository]
    if "@" in authority:
        return before.rindex("@") + 1
    port = authority.partition(":")[2]
    if ":" in authority and (not port.isdigit() or before is not location or repository < 0):
        return before.rindex("@") + 1
    return 0
