"""Whether the base learning rate matters to autotune, and to its peers."""
