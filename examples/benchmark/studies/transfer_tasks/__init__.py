"""autotune and learned on small trainings unlike those of the comparison."""
