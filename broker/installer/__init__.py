"""Put the broker on a host as a service of systemd, and take it away again. Serves nothing.

Nothing is imported here: a unit of root's imports two of these modules at each boot.
"""
