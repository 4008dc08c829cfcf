"""Training and evaluation: config, flags, the loop, optimizers and schedules."""
