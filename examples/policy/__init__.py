"""What train_policy.py is made of: tasks, whole trainings, evolution."""
