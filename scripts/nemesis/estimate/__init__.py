"""What a config will cost, before anything is downloaded or computed."""
