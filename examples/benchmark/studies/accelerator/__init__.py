"""The example scripts at full size."""
