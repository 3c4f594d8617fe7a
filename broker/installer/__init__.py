"""Install the broker as a systemd service, and uninstall it.

Nothing is imported here: a unit of root's imports two of these modules at each boot.
"""
