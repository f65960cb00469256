/* cc -o notes notes.c -lsqlite3 && ./notes [memory-first] */

#include "tornpage.h"

static const char *DESCRIPTION =
    "{\"title\": \"notes in C\", \"database\": \"notes.sqlite\", \"calls\": ["
    " {\"name\": \"put\", \"args\": {\"name\": \"milk\", \"text\": \"buy\"}},"
    " {\"name\": \"put\", \"args\": {\"name\": \"milk\", \"text\": \"bought\"}},"
    " {\"name\": \"remove\", \"args\": {\"name\": \"milk\"}}],"
    " \"beat\": {\"name\": \"put\", \"args\": {\"name\": \"heartbeat\", \"text\": \"alive\"}},"
    " \"rows\": [\"SELECT name, text FROM notes\"]}";

static const char *TABLE = "CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT)";
static int memory_first;
static sqlite3 *disk, *memory; /* What is answered comes from memory: the same table there. */

static const char *run(sqlite3 *db, const char *sql, const char *name, const char *text) {
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK && name) sqlite3_bind_text(statement, 1, name, -1, SQLITE_TRANSIENT);
    if (code == SQLITE_OK && text) sqlite3_bind_text(statement, 2, text, -1, SQLITE_TRANSIENT);
    if (code == SQLITE_OK)
        while ((code = sqlite3_step(statement)) == SQLITE_ROW) {}
    sqlite3_finalize(statement);
    return code == SQLITE_OK || code == SQLITE_DONE ? NULL : sqlite3_errstr(code);
}

static const char *close_store(void) {
    int code = sqlite3_close(disk);
    disk = NULL;
    return code == SQLITE_OK ? NULL : sqlite3_errstr(code);
}

static const char *load(void) {
    sqlite3_stmt *rows = NULL;
    const char *failed = run(memory, "DELETE FROM notes", NULL, NULL);
    int code = sqlite3_prepare_v2(disk, "SELECT name, text FROM notes", -1, &rows, NULL);
    while (code == SQLITE_OK && !failed && (code = sqlite3_step(rows)) == SQLITE_ROW) {
        failed = run(memory, "INSERT INTO notes VALUES (?1, ?2)", (const char *)sqlite3_column_text(rows, 0),
                     (const char *)sqlite3_column_text(rows, 1));
        code = SQLITE_OK;
    }
    sqlite3_finalize(rows);
    return failed || code == SQLITE_DONE ? failed : sqlite3_errstr(code);
}

static const char *open_store(void) {
    char *path = sqlite3_mprintf("%s/notes.sqlite", tornpage_text("$.directory"));
    char *mode = sqlite3_mprintf("PRAGMA journal_mode = %s", tornpage_text("$.journal_mode"));
    char *level = sqlite3_mprintf("PRAGMA synchronous = %s", tornpage_text("$.synchronous"));
    const char *failed = sqlite3_open(path, &disk) == SQLITE_OK ? NULL : "cannot open";
    sqlite3_busy_timeout(disk, 1000);
    if (!failed) failed = run(disk, mode, NULL, NULL);
    if (!failed) failed = run(disk, level, NULL, NULL);
    if (!failed) failed = run(disk, TABLE, NULL, NULL);
    if (!failed) failed = load();
    if (failed) close_store();
    sqlite3_free(path), sqlite3_free(mode), sqlite3_free(level);
    return failed;
}

static const char *call(void) {
    const char *name = tornpage_text("$.args.name"), *text = tornpage_text("$.args.text"), *failed;
    int puts_it = !strcmp(tornpage_text("$.action"), "put");
    const char *sql = puts_it ? "INSERT OR REPLACE INTO notes VALUES (?1, ?2)" : "DELETE FROM notes WHERE name = ?1";
    sqlite3 *first = memory_first ? memory : disk, *then = memory_first ? disk : memory;
    if (!puts_it) {
        int there = 0;
        sqlite3_stmt *one = NULL;
        sqlite3_prepare_v2(memory, "SELECT 1 FROM notes WHERE name = ?1", -1, &one, NULL);
        sqlite3_bind_text(one, 1, name, -1, SQLITE_TRANSIENT);
        there = sqlite3_step(one) == SQLITE_ROW;
        sqlite3_finalize(one);
        if (!there) return tornpage_refused("no such note");
    }
    failed = run(first, sql, name, puts_it ? text : NULL);
    return failed ? failed : run(then, sql, name, puts_it ? text : NULL);
}

static char *view(void) {
    sqlite3_stmt *all = NULL;
    char *shown = NULL;
    sqlite3_prepare_v2(memory, "SELECT json_group_object(name, text) FROM notes", -1, &all, NULL);
    if (sqlite3_step(all) == SQLITE_ROW) shown = sqlite3_mprintf("%s", sqlite3_column_text(all, 0));
    sqlite3_finalize(all);
    return shown;
}

int main(int count, char **arguments) {
    memory_first = count > 1 && !strcmp(arguments[1], "memory-first");
    if (sqlite3_open(":memory:", &memory) != SQLITE_OK || run(memory, TABLE, NULL, NULL)) return 1;
    return tornpage_serve(DESCRIPTION, open_store, call, view, close_store);
}
