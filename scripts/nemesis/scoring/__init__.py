"""Which units were manipulated, and how sure we are of a share of units."""
