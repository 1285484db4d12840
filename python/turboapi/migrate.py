"""`python -m turboapi.migrate PATH...` is `turboapi migrate PATH...`."""

import sys

from turboapi.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "migrate")
    main()
