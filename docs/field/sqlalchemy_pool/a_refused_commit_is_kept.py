"""A COMMIT that meets a reader leaves its transaction open in the pool; the next session sees and commits it.

Expected: a session that is closed after `commit()` raised rolls back, as `with Session.begin()` does.
Fix: where COMMIT raised, let the pool's reset roll back.
"""

import sqlite3
import tempfile
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "notes.db")
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE note (name)"))

    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM note").fetchall()
    try:
        with Session(engine) as session:
            session.execute(text("INSERT INTO note VALUES ('refused')"))
            session.commit()
    except OperationalError as error:
        print("commit:", error.orig)
    reader.execute("COMMIT")

    try:
        print("the reader:", reader.execute("SELECT * FROM note").fetchall())
    except sqlite3.OperationalError as error:
        print("the reader:", error)
    with Session(engine) as session:
        print("the next session:", session.execute(text("SELECT * FROM note")).all())
        session.execute(text("INSERT INTO note VALUES ('next')"))
        session.commit()
    print("the file:", reader.execute("SELECT * FROM note").fetchall())
    reader.close()
    engine.dispose()
