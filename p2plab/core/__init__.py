"""What travels, what a machine promises, what a network does."""
