"""`python -m openbell` is `openbell`."""

from openbell.cli.main import main

if __name__ == "__main__":
    main()
