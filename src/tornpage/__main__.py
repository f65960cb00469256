"""``python -m tornpage``."""

from tornpage.scenarios.cli import main

if __name__ == "__main__":
    main()
