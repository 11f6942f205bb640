"""Data sets: images, texts and series in memory, three splits each."""
