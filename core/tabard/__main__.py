"""`python -m tabard`: the command line."""

from tabard.cli import main

main()
