"""Rooms of many peers: what a node promises, virtual time, the pages, the checker."""
