"""How fast is it, beside something else: prints one table. `make bench` runs it."""

from __future__ import annotations

import time

from checker import checker
from figures import show
from sockets import pictures
from startup import startup
from virtual import virtual

if __name__ == "__main__":
    begun = time.monotonic()
    show("512x512 RGB picture, two threads, loopback", pictures())
    show("virtual time: selective repeat, 10,000 payloads", virtual())
    show("getting started", startup())
    checker()
    print(f"\n{time.monotonic() - begun:.0f} s in all")
