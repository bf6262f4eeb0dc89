"""Lets `python -m accelsim` do what the command `accelsim` does."""

from accelsim.cli.main import main

if __name__ == "__main__":
    main()
