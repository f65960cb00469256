"""Django: a model, and its cache in a database table, each with the connection that Django keeps for the thread."""

import django
from django.conf import settings
from django.db import connections, models, transaction

from tornpage import Action, Configuration, SimpleTarget

if not settings.configured:
    settings.configure(DATABASES={}, INSTALLED_APPS=[], USE_TZ=True)
    django.setup()


class Item(models.Model):
    key = models.CharField(max_length=50, primary_key=True)
    value = models.TextField()

    class Meta:
        app_label = "field"


class Store:
    """The model on a connection of its own."""

    def __init__(self, path, configuration):
        init = f"PRAGMA journal_mode = {configuration.journal_mode}; PRAGMA synchronous = {configuration.synchronous};"
        given = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": {"init_command": init}}
        self.alias = str(path)
        connections.settings[self.alias] = connections.configure_settings({"default": {}, self.alias: given})[
            self.alias
        ]
        self.connection = connections[self.alias]
        self.items = Item.objects.using(self.alias)
        try:
            if "field_item" not in self.connection.introspection.table_names():
                with self.connection.schema_editor() as editor:
                    editor.create_model(Item)
        except BaseException:
            self.close()
            raise

    def set(self, key, value):
        self.items.update_or_create(key=key, defaults={"value": value})

    def move(self, key, to):
        with transaction.atomic(using=self.alias):
            item = self.items.get(key=key)
            self.items.create(key=to, value=item.value)
            item.delete()

    def set_many(self, keys, value):
        self.items.bulk_create([Item(key=key, value=value) for key in keys])

    def remove(self, key):
        return self.items.filter(key=key).delete()[0]

    def close(self):
        self.connection.close()
        del connections[self.alias]


class Model(SimpleTarget):
    title = "Django: a model"
    configurations = (Configuration("delete", "FULL"), Configuration("wal", "NORMAL"))
    file = "items.db"
    unpromised = {
        "waits-for-a-short-lock": "its transactions are deferred, unless OPTIONS say transaction_mode = IMMEDIATE",
    }
    calls = (
        Action("set", {"key": "a", "value": "1"}),
        Action("set_many", {"keys": ["b", "c"], "value": "x" * 6_000}),
        Action("set", {"key": "a", "value": "2"}),
        Action("move", {"key": "b", "to": "d"}),
        Action("remove", {"key": "a"}),
    )
    beat = Action("set", {"key": "heartbeat", "value": "1"})

    def make(self, path, configuration, environment):
        return Store(path, configuration)

    def view(self, store):
        return dict(store.items.values_list("key", "value"))

    def rows(self, connection):
        return dict(connection.execute("SELECT key, value FROM field_item").fetchall())
