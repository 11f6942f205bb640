"""Whether the online learners earn their place around anchors."""
