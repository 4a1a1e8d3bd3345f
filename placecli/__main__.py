"""`python -m placecli` is `place`."""

from placecli.cli import main

if __name__ == "__main__":
    main()
