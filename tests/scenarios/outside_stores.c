/* A store of numbers with one defect each, by its first argument; "sound" and "meta-synced" have none. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *DESCRIPTION =
    "{\"database\": \"n.db\", \"calls\": [{\"name\": \"put\", \"args\": {\"name\": \"a\", \"n\": 1}},"
    " {\"name\": \"put\", \"args\": {\"name\": \"b\", \"n\": 2}}, {\"name\": \"put\", \"args\": {\"name\": \"a\", \"n\": 3}}],"
    " \"beat\": {\"name\": \"put\", \"args\": {\"name\": \"beat\", \"n\": 0}},"
    " \"rows\": [\"SELECT name, n FROM t\"], \"configurations\": [\"wal/FULL\"]}";

static const char *mode;
static sqlite3 *memory, *disk;
static char where[4096];

static int is(const char *name) { return strcmp(mode, name) == 0; }

static char *query(sqlite3 *db, const char *sql, const char *a, const char *b) {
    sqlite3_stmt *statement = NULL;
    char *found = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) return NULL;
    if (a) sqlite3_bind_text(statement, 1, a, -1, SQLITE_TRANSIENT);
    if (b) sqlite3_bind_text(statement, 2, b, -1, SQLITE_TRANSIENT);
    if (sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_text(statement, 0))
        found = strdup((const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    return found ? found : strdup("");
}

static char *part(const char *line, const char *path) { return query(memory, "SELECT json_extract(?1, ?2)", line, path); }

static void path_of(char *path, const char *name) { snprintf(path, 8192, "%s/%s", where, name); }

/* How many changes there were, in a file of its own that is replaced as a whole. */
static int write_meta(int count) {
    char new[8192], old[8192], text[64];
    path_of(new, "meta.new"), path_of(old, "meta");
    int file = open(new, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int length = snprintf(text, sizeof text, "changes %d\n", count);
    int failed = file < 0 || write(file, text, length) != length || (is("meta-synced") && fsync(file) != 0);
    if (file >= 0) failed |= close(file) != 0;
    return failed || rename(new, old) != 0;
}

static int read_meta(void) {
    char path[8192], text[64] = "";
    int count = -1;
    path_of(path, "meta");
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fgets(text, sizeof text, file)) sscanf(text, "changes %d", &count);
    fclose(file);
    return count;
}

static void map_database(void) {
    char path[8192];
    path_of(path, "n.db");
    int file = open(path, O_RDWR);
    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
}

static void copy_itself(void) {
    char to[8192];
    path_of(to, "copy.db");
    int in = open("/proc/self/exe", O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    while (sendfile(out, in, NULL, 1 << 20) > 0) {}
    close(in), close(out);
}

static const char *open_store(const char *line) {
    char path[8192], *directory = part(line, "$.directory"), *sql;
    snprintf(where, sizeof where, "%s", directory);
    path_of(path, "n.db");
    if (read_meta() < 0) return "meta is damaged";
    if (sqlite3_open(path, &disk) != SQLITE_OK) return "cannot open";
    if (!is("no-timeout")) sqlite3_busy_timeout(disk, 60000);
    sql = sqlite3_mprintf("PRAGMA journal_mode = WAL; PRAGMA synchronous = %s;"
                          "CREATE TABLE IF NOT EXISTS t(name TEXT PRIMARY KEY, n INTEGER)", is("off") ? "OFF" : "FULL");
    int code = sqlite3_exec(disk, sql, NULL, NULL, NULL);
    sqlite3_free(sql), free(directory);
    if (code != SQLITE_OK) return sqlite3_errmsg(disk);
    if (is("maps")) map_database();
    sqlite3_exec(memory, "DELETE FROM t", NULL, NULL, NULL);
    sqlite3_stmt *rows = NULL;
    sqlite3_prepare_v2(disk, "SELECT name, n FROM t", -1, &rows, NULL);
    while (sqlite3_step(rows) == SQLITE_ROW)
        free(query(memory, "INSERT INTO t VALUES(?1, CAST(?2 AS INTEGER))", (const char *)sqlite3_column_text(rows, 0),
                   (const char *)sqlite3_column_text(rows, 1)));
    return sqlite3_finalize(rows) == SQLITE_OK ? NULL : sqlite3_errmsg(disk);
}

static int put(const char *name, const char *n, const char *done) {
    int code = sqlite3_exec(disk, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code == SQLITE_BUSY && is("hides-busy")) return SQLITE_OK;
    if (code != SQLITE_OK) return code;
    free(query(disk, "INSERT OR REPLACE INTO t VALUES(?1, CAST(?2 AS INTEGER))", name, n));
    if (is("answers-early")) printf("%s", done), fflush(stdout);
    code = sqlite3_exec(disk, "COMMIT", NULL, NULL, NULL);
    if (code != SQLITE_OK && !sqlite3_get_autocommit(disk)) sqlite3_exec(disk, "ROLLBACK", NULL, NULL, NULL);
    if (code == SQLITE_OK) free(query(memory, "INSERT OR REPLACE INTO t VALUES(?1, CAST(?2 AS INTEGER))", name, n));
    if (code == SQLITE_OK && strncmp(mode, "meta", 4) == 0 && write_meta(read_meta() + 1)) return SQLITE_IOERR;
    if (is("copies")) copy_itself();
    return code;
}

int main(int count, char **arguments) {
    char *line = NULL;
    size_t size = 0;
    mode = count > 1 ? arguments[1] : "sound";
    sqlite3_open(":memory:", &memory);
    sqlite3_exec(memory, "CREATE TABLE t(name TEXT PRIMARY KEY, n INTEGER)", NULL, NULL, NULL);
    while (getline(&line, &size, stdin) > 0) {
        const char *done = "{\"answer\": \"done\"}\n", *failed = NULL;
        char *asked = part(line, "$.do");
        if (!strcmp(asked, "describe")) printf("{\"answer\": \"done\", \"protocol\": 1, \"description\": %s}\n", DESCRIPTION);
        else if (!strcmp(asked, "open")) failed = open_store(line);
        else if (!strcmp(asked, "close")) sqlite3_close(disk), disk = NULL;
        else if (!strcmp(asked, "call")) {
            char *name = part(line, "$.args.name"), *n = part(line, "$.args.n");
            int code = put(name, n, done);
            if (code != SQLITE_OK) failed = sqlite3_errstr(code);
            free(name), free(n);
            if (is("answers-early") && !failed) done = "";
        } else if (!strcmp(asked, "view")) {
            char *view = query(memory, "SELECT json_group_object(name, n) FROM t", NULL, NULL);
            printf("{\"answer\": \"done\", \"view\": %s}\n", view), free(view);
        }
        if (failed) printf("{\"answer\": \"failed\", \"message\": \"%s\"}\n", failed);
        else if (!strcmp(asked, "open") || !strcmp(asked, "close") || !strcmp(asked, "call")) printf("%s", done);
        fflush(stdout), free(asked);
    }
    return 0;
}
