"""A server under mixed load for minutes or hours, and whether it grows: `scripts/soak`."""
