"""What is measured of losses, updates and gradients, as pure functions of arrays."""
