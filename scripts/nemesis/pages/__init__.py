"""The page to look at every unit: what it shows, in files that a browser opens without a server."""
