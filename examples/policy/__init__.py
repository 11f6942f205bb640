"""Trains what learned and the online learners begin with: tasks, trainings, fits."""
