"""``python -m ledger``."""

from ledger.command import main

if __name__ == "__main__":
    main()
