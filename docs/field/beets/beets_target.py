"""beets: its library of music, as its command uses it: items, their fields and their flexible attributes."""

import os
import sqlite3

from tornpage import Action, Configuration, SimpleTarget

os.environ.setdefault("BEETSDIR", "/nonexistent")  # No one's own configuration.

from beets.library import Item, Library


class New(Library):
    """A library of this version: on a new file the migrations of older ones only copy it eleven times."""

    _migrations = ()


class Music:
    """A library; an item is kept from one call to the next, as an import session does."""

    def __init__(self, path):
        self.library = New(path, directory=str(path.parent), set_music_dir=False)
        self.items = {item.title: item for item in self.library.items()}

    def add(self, title, mood):
        item = Item(title=title, mood=mood)
        self.library.add(item)
        self.items[title] = item

    def edit(self, title, artist, mood):
        item = self.items[title]
        item.artist = artist
        item.mood = mood
        item.store()

    def remove(self, title):
        self.items[title].remove(delete=False)
        del self.items[title]

    def titles(self):
        return {item.title: [item.artist, item.get("mood")] for item in self.library.items()}

    def close(self):
        self.library._close()


class Songs(SimpleTarget):
    title = "beets: Library and Item"
    configurations = (Configuration("delete", "FULL"),)
    file = "library.db"
    calls = (
        Action("add", {"title": "one", "mood": "calm"}),
        Action("edit", {"title": "one", "artist": "ada", "mood": "loud"}),
        Action("add", {"title": "two", "mood": "x" * 6_000}),
        Action("remove", {"title": "one"}),
    )
    beat = Action("add", {"title": "heartbeat", "mood": "alive"})
    # What one import holds in memory another does not see.
    callers = ()

    def make(self, path, configuration, environment):
        return Music(path)

    def view(self, store):
        return store.titles()

    def rows(self, connection):
        moods = dict(connection.execute("SELECT entity_id, value FROM item_attributes WHERE key = 'mood'"))
        return {
            title: [artist, moods.get(id)]
            for id, title, artist in connection.execute("SELECT id, title, artist FROM items")
        }


class Patient(Music):
    """Stores an item once more where that fails, as a caller does that reads *database is locked*."""

    def edit(self, title, artist, mood):
        try:
            super().edit(title, artist, mood)
        except sqlite3.OperationalError:
            self.items[title].store()


class TriedAgain(Songs):
    title = "beets: an item that is stored once more where that fails"

    def make(self, path, configuration, environment):
        return Patient(path)
