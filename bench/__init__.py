"""Measure the broker beside bare servers, in the same run."""
