"""Who watches: told by the gate of all that happens, never asked."""
