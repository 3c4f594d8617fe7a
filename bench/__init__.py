"""Our own numbers, each beside bare servers in the same run. Asserts no time."""
