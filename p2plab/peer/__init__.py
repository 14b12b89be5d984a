"""The faces that a notebook holds: a peer, its meetings, a lab."""
