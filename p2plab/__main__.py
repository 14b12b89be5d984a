"""`python -m p2plab`: the command line where no scripts are on the path."""

from p2plab.commands.cli import main

raise SystemExit(main())
