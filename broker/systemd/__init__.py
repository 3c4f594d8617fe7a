"""What systemd hands to a service and hears from it. Knows nothing of leases and surfaces.

Standard library only: what is read here is served before anything heavy is imported.
"""

from broker.systemd.fdstore import Store
from broker.systemd.listen_fds import Inherited, NotServable, device_of, inherited
from broker.systemd.notify import Notifier

__all__ = ["Inherited", "NotServable", "Notifier", "Store", "device_of", "inherited"]
