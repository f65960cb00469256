/* Notes in memory and in SQLite, as a program that tornpage can put under test. SQLite also reads and writes the JSON.
 *
 *   cc -o notes notes.c -lsqlite3
 *   tornpage sweep --target 'command:./notes'                  holds
 *   tornpage sweep --target 'command:./notes memory-first'     caught
 */

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *DESCRIPTION =
    "{\"title\": \"notes in memory and in SQLite, in C\", \"database\": \"notes.sqlite\", \"calls\": ["
    " {\"name\": \"put\", \"args\": {\"name\": \"milk\", \"text\": \"buy\"}},"
    " {\"name\": \"put\", \"args\": {\"name\": \"milk\", \"text\": \"bought\"}},"
    " {\"name\": \"remove\", \"args\": {\"name\": \"milk\"}}],"
    " \"beat\": {\"name\": \"put\", \"args\": {\"name\": \"heartbeat\", \"text\": \"alive\"}},"
    " \"rows\": [\"SELECT name, text FROM notes\"], \"configurations\": [\"wal/FULL\", \"delete/FULL\"]}";

static int memory_first;
static sqlite3 *memory; /* What the process answers from: the same table, in memory. */
static sqlite3 *disk;

/* Run one statement with up to two texts bound; the first column of its first row, to be freed, or NULL. */
static char *query(sqlite3 *db, int *code, const char *sql, const char *first, const char *second) {
    sqlite3_stmt *statement = NULL;
    char *found = NULL;
    *code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (*code != SQLITE_OK) return NULL;
    if (first) sqlite3_bind_text(statement, 1, first, -1, SQLITE_TRANSIENT);
    if (second) sqlite3_bind_text(statement, 2, second, -1, SQLITE_TRANSIENT);
    while ((*code = sqlite3_step(statement)) == SQLITE_ROW)
        if (!found && sqlite3_column_text(statement, 0)) found = strdup((const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    *code = *code == SQLITE_DONE ? SQLITE_OK : *code;
    return found;
}

static int run(sqlite3 *db, const char *sql, const char *first, const char *second) {
    int code;
    free(query(db, &code, sql, first, second));
    return code;
}

/* A part of the request, to be freed; the empty text where there is none. */
static char *part(const char *line, const char *path) {
    int code;
    char *found = query(memory, &code, "SELECT json_extract(?1, ?2)", line, path);
    return found ? found : strdup("");
}

static int close_store(void) {
    int code = disk ? sqlite3_close(disk) : SQLITE_OK;
    disk = NULL;
    return code;
}

static int open_store(const char *line) {
    char *directory = part(line, "$.directory"), *mode = part(line, "$.journal_mode");
    char *synchronous = part(line, "$.synchronous");
    char *path = sqlite3_mprintf("%s/notes.sqlite", directory);
    char *pragmas = sqlite3_mprintf("PRAGMA journal_mode = %s; PRAGMA synchronous = %s;"
                                    "CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT)",
                                    mode, synchronous);
    sqlite3_stmt *rows = NULL;
    int code = sqlite3_open(path, &disk);
    if (code == SQLITE_OK) code = sqlite3_busy_timeout(disk, 1000);
    if (code == SQLITE_OK) code = sqlite3_exec(disk, pragmas, NULL, NULL, NULL);
    if (code == SQLITE_OK) code = run(memory, "DELETE FROM notes", NULL, NULL);
    if (code == SQLITE_OK) code = sqlite3_prepare_v2(disk, "SELECT name, text FROM notes", -1, &rows, NULL);
    while (code == SQLITE_OK && (code = sqlite3_step(rows)) == SQLITE_ROW)
        code = run(memory, "INSERT INTO notes VALUES (?1, ?2)", (const char *)sqlite3_column_text(rows, 0),
                   (const char *)sqlite3_column_text(rows, 1));
    sqlite3_finalize(rows);
    if (code != SQLITE_DONE) close_store();
    free(directory), free(mode), free(synchronous), sqlite3_free(path), sqlite3_free(pragmas);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* Persist first: memory changes when SQLite has said that the change is there. The other way round is the defect. */
static int change(const char *sql, const char *name, const char *text) {
    sqlite3 *before = memory_first ? memory : disk, *after = memory_first ? disk : memory;
    int code = run(before, sql, name, text);
    return code == SQLITE_OK ? run(after, sql, name, text) : code;
}

/* One call. `*refused` is set where the store says no. */
static int call(const char *line, const char **refused) {
    char *action = part(line, "$.action"), *name = part(line, "$.args.name"), *text = part(line, "$.args.text");
    int code = SQLITE_OK;
    if (strcmp(action, "put") == 0) {
        code = change("INSERT OR REPLACE INTO notes VALUES (?1, ?2)", name, text);
    } else if (strcmp(action, "remove") == 0) {
        char *found = query(memory, &code, "SELECT 1 FROM notes WHERE name = ?1", name, NULL);
        if (!found) *refused = "no such note";
        else code = change("DELETE FROM notes WHERE name = ?1", name, NULL);
        free(found);
    } else {
        *refused = "no such action";
    }
    free(action), free(name), free(text);
    return code;
}

int main(int count, char **arguments) {
    char *line = NULL;
    size_t size = 0;
    memory_first = count > 1 && strcmp(arguments[1], "memory-first") == 0;
    if (sqlite3_open(":memory:", &memory) != SQLITE_OK) return 1;
    if (run(memory, "CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT)", NULL, NULL) != SQLITE_OK) return 1;
    while (getline(&line, &size, stdin) > 0) {
        const char *refused = NULL;
        int code = SQLITE_OK;
        char *asked = part(line, "$.do"), *view = NULL;
        if (strcmp(asked, "describe") == 0) {
            printf("{\"answer\": \"done\", \"protocol\": 1, \"description\": %s}\n", DESCRIPTION);
        } else {
            if (strcmp(asked, "open") == 0) code = open_store(line);
            else if (strcmp(asked, "call") == 0) code = call(line, &refused);
            else if (strcmp(asked, "close") == 0) code = close_store();
            else if (strcmp(asked, "view") == 0)
                view = query(memory, &code, "SELECT json_group_object(name, text) FROM notes", NULL, NULL);
            else refused = "unknown request";
            if (refused) printf("{\"answer\": \"refused\", \"message\": \"%s\"}\n", refused);
            else if (code != SQLITE_OK) printf("{\"answer\": \"failed\", \"message\": \"%s\"}\n", sqlite3_errstr(code));
            else if (view) printf("{\"answer\": \"done\", \"view\": %s}\n", view);
            else printf("{\"answer\": \"done\"}\n");
        }
        fflush(stdout);
        free(asked), free(view);
    }
    free(line);
    close_store();
    return sqlite3_close(memory);
}
