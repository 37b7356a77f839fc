"""``python -m loadtest.demo``."""

from loadtest.demo.command import main

if __name__ == "__main__":
    main()
