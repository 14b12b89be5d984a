"""The rendezvous: the one known place where peers find each other."""
