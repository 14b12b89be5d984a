"""How fast is it, beside something else: prints one table. `make bench` runs it."""

from __future__ import annotations

import time

from checker import checker
from figures import head, show
from links import links
from moving import moving
from rooms import rooms
from sockets import pictures
from stage import stage
from startup import startup
from virtual import virtual

if __name__ == "__main__":
    begun = time.monotonic()
    head()
    show(
        "two processes",
        "bytes over loopback, no trace; Mbit/s from the first step to the last byte, "
        "and seconds of a processor at both ends for a gigabyte; medians",
        moving(),
    )
    show(
        "two threads",
        "a 512 x 512 RGB picture over loopback within one process, traced; medians",
        pictures(),
    )
    show(
        "eight links",
        "a picture of 786,432 bytes in virtual time, 100 Mbit/s and 20 ms there and "
        "back (slow: 20 Mbit/s, 100 ms); share of the channel's bound; medians",
        links(),
    )
    show(
        "virtual time",
        "selective repeat, window 64, RFC 6298, 10,000 payloads of 1,200 bytes, "
        "100 Mbit/s, 10 ms; packets with ACKs for a second of a processor; medians",
        virtual(),
    )
    show(
        "rooms",
        "many nodes in virtual time, against packets of two; correct nodes that the "
        "checker accuses in rooms by chance; medians",
        rooms(),
    )
    show(
        "getting started",
        "from a new interpreter to the import, from a new kernel to the first picture",
        startup(),
    )
    show(
        "stage",
        "a panel in the kernel, and a saved page in a headless Chromium; medians",
        stage(),
    )
    show(
        "checker",
        "runs of a second, 6 payloads, 2 lost packets, and how soon it finds the "
        "smallest run that breaks an exhibit of the museum; medians",
        checker(),
    )
    print(f"\n{time.monotonic() - begun:.0f} s in all")
