"""Real sockets: transfers over UDP, seals, paths, STUN, text over TCP."""
