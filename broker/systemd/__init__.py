"""What systemd hands to a service and hears from it. Knows nothing of leases and surfaces.

Standard library only: what is read here is served before anything heavy is imported.
"""

from broker.systemd.inherited import Inherited, NotServable, device_of, inherited
from broker.systemd.notify import Notifier
from broker.systemd.store import Store

__all__ = ["Inherited", "NotServable", "Notifier", "Store", "device_of", "inherited"]
