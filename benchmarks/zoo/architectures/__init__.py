"""The architectures, one family group per file; each file registers its own."""
