"""IAM's spelling of lists: pages, tags and times."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from broker.sandbox.aws.constraints import Params, sized, whole
from broker.sandbox.aws.query import ApiError, Result

_PAGE_MAX, _PAGE_DEFAULT = 1000, 100


def page(params: Params, name: str, entries: Sequence[object]) -> Result:
    """Answer the page of *entries* that ``Marker`` and ``MaxItems`` ask for, as the list *name*."""
    start = _start(params)
    most = whole(params, "MaxItems", least=1, most=_PAGE_MAX, default=_PAGE_DEFAULT)
    is_truncated = start + most < len(entries)
    return {
        name: entries[start : start + most],
        "IsTruncated": is_truncated,
        "Marker": str(start + most) if is_truncated else None,
    }


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def wire_time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _start(params: Params) -> int:
    if "Marker" not in params:
        return 0
    marker = sized(params, "Marker", least=1, most=320)
    if not re.fullmatch(r"\d{1,9}", marker, re.ASCII):
        raise ApiError("InvalidInput", "Invalid Marker")
    return int(marker)
