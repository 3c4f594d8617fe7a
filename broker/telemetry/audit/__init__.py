"""One line for each credential or token that was handed out or refused. Holds nobody up."""

from broker.telemetry.audit.lines import Holder
from broker.telemetry.audit.log import AuditEvent, AuditLog, Dropped, Failing, Restored, auditing
from broker.telemetry.audit.sinks import sink_for

__all__ = [
    "AuditEvent",
    "AuditLog",
    "Dropped",
    "Failing",
    "Holder",
    "Restored",
    "auditing",
    "sink_for",
]
