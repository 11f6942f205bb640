"""What trains a script's model: batches, loop, evaluation, logs, checkpoints."""
