"""What the example scripts share: data, loop, logs, checkpoints and plots."""
