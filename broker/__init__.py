"""Short-lived AWS and Namespace credentials for every program on a host."""

__version__ = "0.1.0"
