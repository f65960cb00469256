"""``python -m tornpage.ledger``."""

from tornpage.ledger.command import main

if __name__ == "__main__":
    main()
