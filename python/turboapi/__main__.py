"""`python -m turboapi`."""

from turboapi.cli import main

if __name__ == "__main__":
    main()
