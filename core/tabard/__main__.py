"""`python -m tabard`: the command line."""

from tabard.cli import main

if __name__ == "__main__":
    main()
