"""autotune and learned on tasks sampled from task families."""
