"""Random transforms of an ascent's image: what is drawn (`draws`), what that does (`geometry`), and doing it (`view`)."""
