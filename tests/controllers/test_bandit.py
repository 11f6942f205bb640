"""bandit, and the reward, guard and driver that it shares with the other learners."""
