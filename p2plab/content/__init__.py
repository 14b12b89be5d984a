"""Pictures and files in pieces, and one of them on its way."""
