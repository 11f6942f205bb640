"""What the frozen policy is worth, alone and around cosines."""
