"""autotune against tuned schedules, on trainings beyond the comparison's own."""
