"""One line for each credential or token that was served or refused."""

from broker.telemetry.audit.lines import CallerDetails
from broker.telemetry.audit.log import AuditEvent, AuditLog, Dropped, Failing, Restored, auditing
from broker.telemetry.audit.sinks import sink_for

__all__ = [
    "AuditEvent",
    "AuditLog",
    "CallerDetails",
    "Dropped",
    "Failing",
    "Restored",
    "auditing",
    "sink_for",
]
