"""Short-lived credentials for everybody on this host, kept fresh by one local daemon."""

__version__ = "0.1.0"
