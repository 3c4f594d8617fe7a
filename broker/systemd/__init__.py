"""The protocol between systemd and a service: sockets, descriptor store, notifications.

Standard library only: what is read here is served before anything heavy is imported.
"""

from broker.systemd.fdstore import Store
from broker.systemd.listen_fds import Inherited, NotServable, device_of, take_inherited
from broker.systemd.notify import Notifier

__all__ = ["Inherited", "NotServable", "Notifier", "Store", "device_of", "take_inherited"]
