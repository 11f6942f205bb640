"""The experiment: a rate that follows the loss against static schedules, by script."""
