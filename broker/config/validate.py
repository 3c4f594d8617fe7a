"""Limits and patterns of single values, most of which botocore does not check.

Each function returns the value as the broker uses it, or raises `ConfigError` at *place*.
"""

import ipaddress
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

from broker import aws
from broker.access.caller import PLAIN_TOKEN
from broker.config.errors import ConfigError, shown
from broker.config.file import below, read_bounded, text_of

AuditStream = Literal["journald", "stdout"]

VISIBLE = r"\A[!-~]{1,255}\Z"
GIVE_VISIBLE = "give 1 to 255 visible ASCII characters, no space"
NAME = r"\A[A-Za-z0-9_+=,.@-]{2,64}\Z"
NAMES = "2 to 64 of letters, digits and _+=,.@-"
LETTERS = "letters, digits and ._-"
GIVE_POOL = "give its guid, or region:guid"
CACHE_OF_NSC = "token.cache"
ROLE_ARN = re.compile(aws.ROLE_ARN, re.ASCII)
POLICY_ARN = re.compile(aws.POLICY_ARN, re.ASCII)
REGION = re.compile(aws.REGION, re.ASCII)
ZONE_AFTER_REGION = re.compile(r"(?:-[a-z]+-\d{1,2})?[a-z]", re.ASCII)
POLICY_TEXT = re.compile(r"[\t\n\r\x20-\xff]*")
HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?")

IDENTITY_POOL = re.compile(r"(?:(?P<region>[^:]*):)?(?P<guid>[0-9a-fA-F-]{1,55})")


# What is often given where a role's ARN is wanted, and why it is not one.
MISTAKEN_ARNS = {
    "oidc-provider": "is an identity provider, not a role",
    "saml-provider": "is an identity provider, not a role",
    "assumed-role": "is a session of a role, not the role",
    "instance-profile": "is an instance profile, not the role in it",
    "user": "is a user; a web identity can only assume a role",
    "group": "is a group; a web identity can only assume a role",
    "policy": "is a policy, not a role",
    "root": "is an account; a web identity can only assume a role",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: an IP address as text, and a port; port 0 picks one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_link_local(self) -> bool:
        return ipaddress.ip_address(self.host).is_link_local


def name(text: str, *, place: str) -> str:
    if not re.match(NAME, text):
        raise ConfigError(place, f"is {shown(text)}", f"a name is {NAMES}")
    return text


def token_name(text: str, *, place: str) -> str:
    """Return the name of a container token that names a caller; also of a file."""
    if text == PLAIN_TOKEN:
        raise ConfigError(
            place, "is the token that names nobody", "set container.token_file, or name another"
        )
    if text.startswith("."):
        raise ConfigError(place, f"is {shown(text)}", "begin it with a letter: it names a file too")
    return name(text, place=place)


def role_arn(text: str, *, place: str) -> str:
    """Return the ARN of an IAM role; what is often taken for one is named. Source: aws-api 3."""
    if len(text) <= 2048 and ROLE_ARN.fullmatch(text):
        return text
    parts = text.strip().split(":", 5)
    account = parts[4] if len(parts) == 6 and re.fullmatch(aws.ACCOUNT_ID, parts[4]) else "ACCOUNT"
    partition = parts[1] if len(parts) == 6 and re.fullmatch(aws.PARTITION, parts[1]) else "aws"
    kind = parts[5].split("/")[0] if len(parts) == 6 else ""
    role = parts[5].split("/")[1:2] if kind == "assumed-role" else []
    wanted = f"arn:{partition}:iam::{account}:role/{role[0] if role else 'NAME'}"
    if not text.isascii() or not text.isprintable():
        wanted = "arn:aws:iam::ACCOUNT:role/NAME"
    what = f"is {shown(text)}, which is no role's ARN"
    if kind in MISTAKEN_ARNS:
        what = f"{shown(text)[1:-1]} {MISTAKEN_ARNS[kind]}"
    if kind in ("oidc-provider", "saml-provider"):
        raise ConfigError(place, what, f"give the role whose trust policy names it: {wanted}")
    if kind == "role":
        raise ConfigError(
            place, what, "give arn:PARTITION:iam::ACCOUNT:role/NAME, ACCOUNT being 12 digits"
        )
    raise ConfigError(place, what, f"give {wanted}")


def web_identity_s(value: int, *, place: str) -> int:
    """Return the seconds that a web identity token is good for. Source: aws-api 5."""
    if not aws.WEB_IDENTITY_MIN_S <= value <= aws.WEB_IDENTITY_MAX_S:
        raise ConfigError(
            place,
            f"is {value}",
            f"STS takes {aws.WEB_IDENTITY_MIN_S} to {aws.WEB_IDENTITY_MAX_S}",
        )
    return value


def identity_pool(text: str, *, place: str) -> str:
    """Return ``guid`` or ``region:guid``. Source: namespace-api 11; guide-flows."""
    split_pool(text, place=place)
    return text


def split_pool(text: str, *, place: str) -> tuple[str | None, str]:
    """Return the region, None where it is left out, and the guid."""
    found = IDENTITY_POOL.fullmatch(text)
    if found is None:
        raise ConfigError(place, f"is {shown(text)}, which is no identity pool", GIVE_POOL)
    in_pool = found["region"]
    return None if in_pool is None else region(in_pool, place=place), found["guid"]


def visible(text: str, *, place: str, next_step: str) -> str:
    """Return an opaque text: visible ASCII, no space."""
    if not re.fullmatch(r"[!-~]{1,255}", text):
        raise ConfigError(place, f"is {shown(text)}", next_step)
    return text


def printable(text: str, *, place: str, next_step: str) -> str:
    if not text or not text.isprintable():
        raise ConfigError(place, f"is {shown(text)}", next_step)
    return text


def group(text: str, *, place: str) -> str:
    return printable(text, place=place, next_step="give the name of a group")


def profile(text: str, *, place: str) -> str:
    return printable(text, place=place, next_step="give the name of a profile")


def token_file(text: str, *, place: str) -> Path:
    found = path(text, place=place)
    if found.name == CACHE_OF_NSC:
        # nsc's own cache: it is removed whenever a token file beside it is written.
        raise ConfigError(place, f"is named {CACHE_OF_NSC}, as nsc's cache", "name it token.json")
    return found


def container_tokens(files: Mapping[str, str], *, place: str) -> Mapping[str, Path]:
    """Return the files of container tokens that name a caller."""
    return {
        token_name(name, place=below(place, name)): path(text, place=below(place, name))
        for name, text in files.items()
    }


def audit_target(text: str, *, place: str) -> Path | AuditStream:
    if text in get_args(AuditStream):
        return cast(AuditStream, text)
    if not text.startswith(("/", "~")):
        words = ", ".join(get_args(AuditStream))
        raise ConfigError(place, f"is {shown(text)}", f"give a path from /, or one of {words}")
    return path(text, place=place)


def policy_file(text: str, *, place: str) -> str:
    """Return the session policy in a file."""
    file = path(text, place=place)
    try:
        content = text_of(read_bounded(file), file)
    except ConfigError as error:
        raise ConfigError(place, f"{error.place} {error.what}", "give a JSON file") from error
    return policy(content, place=place)


def audience(text: str, *, place: str) -> str:
    return visible(text, place=place, next_step=GIVE_VISIBLE)


def policy(text: str, *, place: str) -> str:
    """Return a session policy as it is sent: a JSON object of at most 2048 characters."""
    if not 1 <= len(text) <= aws.POLICY_MAX:
        raise ConfigError(
            place,
            f"has {len(text)} characters",
            f"STS takes 1 to {aws.POLICY_MAX}, blanks included",
        )
    if not POLICY_TEXT.fullmatch(text):
        raise ConfigError(place, "has characters beyond Latin-1", "STS takes none of those")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = error.args[0] if isinstance(error, json.JSONDecodeError) else "nested too deep"
        raise ConfigError(place, f"is no JSON ({what})", "give one policy document") from error
    if not isinstance(document, dict) or "Statement" not in document:
        raise ConfigError(place, "is no policy document", 'give an object with a "Statement"')
    return text


def tags(pairs: Mapping[str, str], *, place: str) -> tuple[tuple[str, str], ...]:
    """Return session tags as they are sent. Source: aws-api 4."""
    if len(pairs) > aws.TAGS_MAX:
        raise ConfigError(place, f"has {len(pairs)} tags", f"STS takes up to {aws.TAGS_MAX}")
    for key, value in pairs.items():
        if not 1 <= len(key) <= 128 or len(value) > 256 or not all(map(fits_tag, key + value)):
            raise ConfigError(
                place,
                f"has {shown(key)} = {shown(value)}",
                "STS takes keys of 1 to 128 and values of up to 256 of letters, digits, blanks and"
                " _.:/=+-@",
            )
    return tuple(pairs.items())


def fits_tag(character: str) -> bool:
    return character in "_.:/=+-@" or unicodedata.category(character)[0] in "LZN"


def policy_arns(arns: Sequence[str], *, place: str) -> tuple[str, ...]:
    if len(arns) > aws.POLICY_ARNS_MAX:
        raise ConfigError(place, f"has {len(arns)} ARNs", f"STS takes up to {aws.POLICY_ARNS_MAX}")
    for index, arn in enumerate(arns):
        if len(arn) > 2048 or not POLICY_ARN.fullmatch(arn):
            raise ConfigError(
                f"{place}[{index}]",
                f"is {shown(arn)}, which is no managed policy's ARN",
                "give arn:aws:iam::ACCOUNT:policy/NAME, or arn:aws:iam::aws:policy/NAME",
            )
        if arn in arns[:index]:
            raise ConfigError(f"{place}[{index}]", f"is {arn} again", "give each policy once")
    return tuple(arns)


def region(text: str, *, place: str) -> str:
    """Return a region that has an STS of its own. Source: aws-api 2.2."""
    if text == "aws-global":
        raise ConfigError(
            place, "is aws-global, which is no region", "give a region, like us-east-1"
        )
    if not REGION.fullmatch(text):
        zone = REGION.fullmatch(text[:-1])
        next_step = f"give its region, {text[:-1]}" if zone else "give one like eu-central-1"
        raise ConfigError(place, f"is {shown(text)}, which is no region", next_step)
    return text


def availability_zone(text: str, region: str | None, *, place: str) -> str:
    if region is None:
        raise ConfigError(place, "is set, and no region is", f"set region too, as in {text[:-1]}")
    if not text.startswith(region) or not ZONE_AFTER_REGION.fullmatch(text[len(region) :]):
        raise ConfigError(
            place, f"is {shown(text)}, which is not in {region}", f"give one like {region}a"
        )
    return text


def address(text: str, *, place: str) -> Address:
    """Return ``HOST:PORT`` or ``[V6]:PORT``; the host is an IP address, or ``localhost``."""
    bracketed = text.startswith("[")
    host, colon, port = text[1:].partition("]:") if bracketed else text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" and not bracketed else host
    try:
        if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or "%" in host:
            raise ValueError
        version = ipaddress.ip_address(host).version
        if bracketed is not (version == 6):
            raise ValueError
    except ValueError:
        raise ConfigError(
            place,
            f"is {shown(text)}",
            "give HOST:PORT, like 127.0.0.1:8170, or [V6]:PORT, like [::1]:8170;"
            " HOST an IP address or localhost, PORT 0 to 65535",
        ) from None
    return Address(str(ipaddress.ip_address(host)), int(port))


def addresses(texts: Sequence[str], *, place: str) -> tuple[Address, ...]:
    """Return where a surface listens, by its key or its flag; ``off`` alone is nowhere."""
    is_flag = place.startswith("--")
    places = [place if is_flag else f"{place}[{index}]" for index in range(len(texts))]
    if "off" in texts:
        if len(set(texts)) > 1:
            raise ConfigError(places[0], "is off and on", "give addresses, or off alone")
        return ()
    return tuple(address(text, place=at) for text, at in zip(texts, places, strict=True))


def host(text: str, *, place: str) -> str:
    """Return a host name or IP address, bare and in lower case, as Hosts are compared."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        if HOST_NAME.fullmatch(text):
            return text.lower()
    raise ConfigError(
        place, f"is {shown(text)}", "give a host name or an IP address, without port"
    ) from None


def path(text: str, *, place: str) -> Path:
    """Return an absolute path; a relative one is taken from where we were started, as nsc does."""
    if not text or not text.isprintable():
        raise ConfigError(place, f"is {shown(text)}", "give the path of a file")
    try:
        return Path(text).expanduser().absolute()
    except (RuntimeError, OSError) as error:
        raise ConfigError(
            place, f"is {shown(text)}, and there is no such home", "give a path from /"
        ) from error


def endpoint(text: str, *, place: str) -> str:
    """Return a base URL without trailing slash; plain http only where nobody can listen in."""
    next_step = "give https://HOST, or http://127.0.0.1:PORT"
    try:
        url = urlsplit(text)
        port_is_good = url.port is None or url.port > 0
    except ValueError:
        raise ConfigError(place, "is no URL", next_step) from None
    if (
        not text.isascii()
        or not text.isprintable()
        or " " in text
        or url.scheme not in ("http", "https")
        or not url.hostname
        or not port_is_good
    ):
        raise ConfigError(place, "is no http or https URL", next_step)
    if url.username is not None or url.query or url.fragment or "?" in text or "#" in text:
        raise ConfigError(place, "has a user, query or fragment", next_step)
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ConfigError(
            place, f"is plain http to {url.hostname}", "plain http is for loopback; use https"
        )
    return text.rstrip("/")


def proxy(text: str, *, place: str) -> None:
    """Check what a variable names as the proxy; who logs in there is not quoted."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        is_usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        quoted = re.sub(r"//[^/]*@", "//", text) if "://" in text else text.rpartition("@")[2]
        raise ConfigError(
            place, f"is {shown(quoted)}, which is no http proxy", "set it to http://HOST:PORT"
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
