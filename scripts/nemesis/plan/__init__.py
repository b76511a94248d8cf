"""From a checked config: which artifacts there are, what each is made from, and where it lies."""
