"""Every way to set the learning rate: schedules, rules, published methods."""
