/* The tornpage protocol for C and C++: copy this file beside your adapter. You write four functions:
 *
 *   static const char *open_store(void) {...}   NULL, or why it failed; the others the same
 *   static const char *call(void) {...}         return tornpage_refused("no such note") for the store's own no
 *   static char *view(void) {...}               the view as JSON, from sqlite3_malloc; NULL where there is none to be had
 *   static const char *close_store(void) {...}
 *   int main(void) { return tornpage_serve(DESCRIPTION, open_store, call, view, close_store); }
 *
 * In open_store and call, tornpage_text("$.args.name") reads a part of the request ("$.directory", "$.journal_mode",
 * "$.synchronous", "$.now_ms", "$.action", "$.args…"); it is the adapter's until the next request, NULL where there is none.
 * tornpage_value(json) is the answer of a call, tornpage_database(path) of an open where the store chooses its file. SQLite's
 * JSON functions read and write, so nothing else is needed: cc -o store store.c -lsqlite3. Log to standard error.
 */

#ifndef TORNPAGE_H
#define TORNPAGE_H

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TORNPAGE_MOST_TEXTS 64

static struct {
    sqlite3 *json;
    const char *request;
    char *texts[TORNPAGE_MOST_TEXTS];
    int count, is_refused;
    char *value, *database;
} tornpage;

/* One value of SQLite's, as text from sqlite3_malloc; NULL for NULL. */
static char *tornpage_query(const char *sql, const char *first, const char *second) {
    sqlite3_stmt *statement = NULL;
    char *found = NULL;
    if (sqlite3_prepare_v2(tornpage.json, sql, -1, &statement, NULL) != SQLITE_OK) return NULL;
    sqlite3_bind_text(statement, 1, first, -1, SQLITE_STATIC);
    if (second) sqlite3_bind_text(statement, 2, second, -1, SQLITE_STATIC);
    if (sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_type(statement, 0) != SQLITE_NULL)
        found = sqlite3_mprintf("%s", sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    return found;
}

static inline const char *tornpage_text(const char *path) {
    char *found = tornpage_query("SELECT json_extract(?1, ?2)", tornpage.request, path);
    if (found && tornpage.count < TORNPAGE_MOST_TEXTS) tornpage.texts[tornpage.count++] = found;
    return found;
}

static inline const char *tornpage_refused(const char *why) {
    tornpage.is_refused = 1;
    return why;
}

static inline void tornpage_value(const char *json) { tornpage.value = sqlite3_mprintf("%s", json); }

static inline void tornpage_database(const char *path) {
    tornpage.database = tornpage_query("SELECT json_quote(?1)", path, NULL);
}

static void tornpage_say(const char *name, const char *json) {
    printf("{\"answer\": \"done\"%s%s%s}\n", name, name[0] ? ": " : "", json);
}

static void tornpage_forget(void) {
    while (tornpage.count) sqlite3_free(tornpage.texts[--tornpage.count]);
    sqlite3_free(tornpage.value), sqlite3_free(tornpage.database);
    tornpage.value = tornpage.database = NULL;
    tornpage.is_refused = 0;
}

static int tornpage_serve(const char *description, const char *(*open_store)(void), const char *(*call)(void),
                          char *(*view)(void), const char *(*close_store)(void)) {
    char *line = NULL;
    size_t size = 0;
    if (sqlite3_open(":memory:", &tornpage.json) != SQLITE_OK) return 1;
    while (getline(&line, &size, stdin) > 0) {
        const char *asked, *failed = NULL;
        char *shown = NULL;
        tornpage.request = line;
        asked = tornpage_text("$.do");
        if (!asked) asked = "";
        if (!strcmp(asked, "open")) failed = open_store();
        else if (!strcmp(asked, "call")) failed = call();
        else if (!strcmp(asked, "close")) failed = close_store();
        else if (!strcmp(asked, "view") && !(shown = view())) failed = "there is no view to be had";
        if (failed) {
            char *message = tornpage_query("SELECT json_quote(?1)", failed, NULL);
            printf("{\"answer\": \"%s\", \"message\": %s}\n", tornpage.is_refused ? "refused" : "failed",
                   message ? message : "\"\"");
            sqlite3_free(message);
        } else if (!strcmp(asked, "describe")) {
            /* Under a shell, say, the process that was started is another one. */
            char *name = sqlite3_mprintf(", \"protocol\": 1, \"pid\": %d, \"description\"", (int)getpid());
            tornpage_say(name, description), sqlite3_free(name);
        }
        else if (shown) tornpage_say(", \"view\"", shown);
        else if (tornpage.value) tornpage_say(", \"value\"", tornpage.value);
        else if (tornpage.database) tornpage_say(", \"database\"", tornpage.database);
        else tornpage_say("", "");
        fflush(stdout);
        sqlite3_free(shown), tornpage_forget();
    }
    free(line);
    return sqlite3_close(tornpage.json);
}

#endif
