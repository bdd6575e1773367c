"""The documents: everything that they show is run, and what they list is complete."""
