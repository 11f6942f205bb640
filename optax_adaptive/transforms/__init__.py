"""What is chained into an optimizer or wrapped around it, and what reads its state."""
