"""Training as a pure function of numbers, and many trainings as one program."""
