"""Build the metadata tree of IMDS and find the entry or listing of a path."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256

from broker import aws
from broker.clock import rfc3339
from broker.surfaces.documents import ec2_json

# Source: sdk-client-contract C-14; the dates are the public versions of EC2's own service.
FIRST_DATED = date(2007, 1, 19)
LISTED_VERSIONS = (
    "1.0",
    "2007-01-19",
    "2008-02-01",
    "2009-04-04",
    "2011-01-01",
    "2012-01-12",
    "2014-02-25",
    "2016-09-02",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-03-23",
    "2021-07-15",
    "latest",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The machine as IMDS describes it. What is None is absent (404), never empty (C-18).

    ``read_at`` is when these facts were read: ``pendingTime``, ``Last-Modified``.
    ``availability_zone`` defaults to the region and the letter a.
    """

    instance_id: str
    read_at: datetime
    region: str | None = None
    availability_zone: str | None = None
    account_id: str | None = None
    hostname: str | None = None
    local_ipv4: str | None = None
    mac: str | None = None
    architecture: str | None = None
    # This is no EC2 instance, so neither is true; both have the right form.
    instance_type: str = "namespace.instance"
    image_id: str = "ami-00000000000000000"

    @property
    def zone(self) -> str | None:
        """The availability zone; there is none without a region."""
        if self.region is None:
            return None
        return self.availability_zone or f"{self.region}a"


def instance_id_from(machine_id: str) -> str:
    """Return a stable instance id for the machine: ``i-`` and 17 hex digits.

    Hashed, since a machine id must not be shown to the network (machine-id(5)).

    Source: sdk-client-contract C-16.
    """
    digest = sha256(b"namespace-broker instance id\0" + machine_id.strip().encode())
    return "i-" + digest.hexdigest()[:17]


def zone_id(region: str, zone: str) -> str | None:
    """Return the zone's id, as ``use1-az1`` for ``us-east-1a``; None for a zone of another form.

    Which letter is which id differs by account; we take them in order.
    """
    letter = re.fullmatch(re.escape(region) + "([a-z])", zone)
    parts = re.fullmatch(r"([a-z]+)-(?:([a-z]+)-)?([a-z]+)-([0-9]+)", region)
    if letter is None or parts is None:
        return None
    area, part, direction, number = parts.groups()
    short = re.sub("(north|south)(?=east|west)|north|south|east|west|central", _initial, direction)
    return f"{area}{(part or '')[:1]}{short}{number}-az{ord(letter[1]) - ord('a') + 1}"


def _initial(word: re.Match[str]) -> str:
    return word[0][0]


Tree = Mapping[str, "Tree | str"]


def tree_of(instance: Instance, *, with_iam: bool) -> Tree:
    """Return the tree below a version, with texts as leaves.

    *with_iam* lists ``iam/``, whose own paths are answered elsewhere.

    Source: sdk-client-contract C-15 to C-19.
    """
    iam: Tree = {"info": "", "security-credentials": {}}
    meta_data: Tree = {
        "ami-id": instance.image_id,
        **_known("hostname", instance.hostname),
        **({"iam": iam} if with_iam else {}),
        "instance-id": instance.instance_id,
        "instance-type": instance.instance_type,
        **_known("local-hostname", instance.hostname),
        **_known("local-ipv4", instance.local_ipv4),
        **_known("mac", instance.mac),
        **_regional(instance),
    }
    document = identity_document(instance)
    identity = {} if document is None else {"instance-identity": {"document": document}}
    return {"api": {}, "dynamic": identity, "meta-data": meta_data}


def _known(name: str, text: str | None) -> dict[str, str]:
    return {} if text is None else {name: text}


def _regional(instance: Instance) -> Tree:
    if instance.region is None or instance.zone is None:
        return {}
    partition = aws.partition_of_region(instance.region)
    return {
        "placement": {
            "availability-zone": instance.zone,
            **_known("availability-zone-id", zone_id(instance.region, instance.zone)),
            "region": instance.region,
        },
        "services": {
            "domain": aws.DNS_SUFFIXES[partition][0],
            "partition": partition,
        },
    }


def identity_document(instance: Instance) -> str | None:
    """Return the instance identity document, which has no signature; None without a region.

    Source: sdk-client-contract C-17, C-18.
    """
    if instance.region is None:
        return None
    return ec2_json(
        {
            "accountId": instance.account_id,
            "architecture": instance.architecture,
            "availabilityZone": instance.zone,
            "billingProducts": None,
            "devpayProductCodes": None,
            "marketplaceProductCodes": None,
            "imageId": instance.image_id,
            "instanceId": instance.instance_id,
            "instanceType": instance.instance_type,
            "kernelId": None,
            "pendingTime": rfc3339(instance.read_at),
            "privateIp": instance.local_ipv4,
            "ramdiskId": None,
            "region": instance.region,
            "version": "2017-09-30",
        }
    ).decode("ascii")


def text_at(tree: Tree, segments: tuple[str, ...]) -> str | None:
    """Return the leaf's text or the directory's listing, without a final newline, or None."""
    node: Tree | str = tree
    for segment in segments:
        if isinstance(node, str) or segment not in node:
            return None
        node = node[segment]
    if isinstance(node, str):
        return node
    return "\n".join(name if isinstance(entry, str) else f"{name}/" for name, entry in node.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a path requests.

    ``label`` is one of a fixed set, for metrics; ``segments`` are those below the version;
    ``role`` is the name on the credentials path, ``extended`` if the account is included.
    """

    label: str
    segments: tuple[str, ...] = ()
    role: str = ""
    extended: bool = False


LISTS = {"security-credentials": False, "security-credentials-extended": True}
"""The two lists of roles, and whether the documents below have the account (C-39)."""


def route_of(path: str) -> Route:
    """Return what *path* requests: slashes collapsed, a final one optional, any version.

    Source: sdk-client-contract C-12, C-13, C-14.
    """
    segments = tuple(segment for segment in path.split("/") if segment)
    if not segments:
        return Route(label="versions")
    if not _is_version(segments[0]):
        return Route(label="other")
    if segments == ("latest", "api", "token"):
        return Route(label="token")
    below = segments[1:]
    match below:
        case ("dynamic", "instance-identity", "document"):
            return Route(label="identity-document", segments=below)
        case ("meta-data", "iam", "info"):
            return Route(label="iam-info", segments=below)
        case ("meta-data", "iam", name) if name in LISTS:
            return Route(label="role-list", segments=below)
        case ("meta-data", "iam", name, role) if name in LISTS:
            return Route(label="credentials", segments=below, role=role, extended=LISTS[name])
        case _:
            return Route(label="metadata", segments=below)


def _is_version(segment: str) -> bool:
    if segment in ("latest", "1.0"):
        return True
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", segment):
        return False
    try:
        return date.fromisoformat(segment) >= FIRST_DATED
    except ValueError:
        return False
