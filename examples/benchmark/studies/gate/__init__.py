"""Whether a change moves what the methods end with."""
