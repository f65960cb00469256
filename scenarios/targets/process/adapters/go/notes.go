// go build -o notes . && ./notes [memory-first]; it calls SQLite's own library, so that it needs no module.
package main

// #cgo LDFLAGS: -lsqlite3
// #include <sqlite3.h>
// #include <stdlib.h>
// static int bind(sqlite3_stmt *s, int n, const char *text) { return sqlite3_bind_text(s, n, text, -1, SQLITE_TRANSIENT); }
import "C"

import (
	"errors"
	"os"
	"path/filepath"
	"unsafe"
)

type notes struct {
	db          *C.sqlite3
	memory      map[string]any
	memoryFirst bool
}

// run makes one statement, and hands each row of two texts to `row`.
func (n *notes) run(sql string, row func(a, b string), values ...string) error {
	text := C.CString(sql)
	defer C.free(unsafe.Pointer(text))
	var statement *C.sqlite3_stmt
	if C.sqlite3_prepare_v2(n.db, text, -1, &statement, nil) != C.SQLITE_OK {
		return n.failed()
	}
	for index, value := range values {
		bound := C.CString(value)
		C.bind(statement, C.int(index+1), bound)
		C.free(unsafe.Pointer(bound))
	}
	code := C.sqlite3_step(statement)
	for ; code == C.SQLITE_ROW; code = C.sqlite3_step(statement) {
		if row != nil {
			row(column(statement, 0), column(statement, 1))
		}
	}
	var err error
	if code != C.SQLITE_DONE {
		err = n.failed()
	}
	C.sqlite3_finalize(statement)
	return err
}

func column(statement *C.sqlite3_stmt, index C.int) string {
	return C.GoString((*C.char)(unsafe.Pointer(C.sqlite3_column_text(statement, index))))
}

func (n *notes) failed() error { return errors.New(C.GoString(C.sqlite3_errmsg(n.db))) }

func (n *notes) Open(where Where) (string, error) {
	path := C.CString(filepath.Join(where.Directory, "notes.sqlite"))
	defer C.free(unsafe.Pointer(path))
	n.memory = map[string]any{}
	if C.sqlite3_open(path, &n.db) != C.SQLITE_OK {
		err := n.failed()
		n.Close()
		return "", err
	}
	C.sqlite3_busy_timeout(n.db, 1000)
	for _, sql := range []string{
		"PRAGMA journal_mode = " + where.JournalMode,
		"PRAGMA synchronous = " + where.Synchronous,
		"CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT)",
	} {
		if err := n.run(sql, nil); err != nil {
			n.Close()
			return "", err
		}
	}
	err := n.run("SELECT name, text FROM notes", func(name, text string) { n.memory[name] = text })
	if err != nil {
		n.Close()
	}
	return "", err
}

func (n *notes) Call(action string, args map[string]any, nowMs int64) (any, error) {
	name, _ := args["name"].(string)
	text, _ := args["text"].(string)
	if _, there := n.memory[name]; action == "remove" && !there {
		return nil, Refused("no such note")
	}
	if n.memoryFirst {
		n.remember(action, name, text)
	}
	var err error
	if action == "put" {
		err = n.run("INSERT OR REPLACE INTO notes VALUES (?, ?)", nil, name, text)
	} else {
		err = n.run("DELETE FROM notes WHERE name = ?", nil, name)
	}
	if err == nil {
		n.remember(action, name, text)
	}
	return nil, err
}

func (n *notes) remember(action, name, text string) {
	if action == "put" {
		n.memory[name] = text
	} else {
		delete(n.memory, name)
	}
}

func (n *notes) View() (map[string]any, error) { return n.memory, nil }

func (n *notes) Close() error {
	code := C.sqlite3_close(n.db)
	n.db = nil
	if code != C.SQLITE_OK {
		return errors.New("cannot close")
	}
	return nil
}

func main() {
	put := func(name, text string) map[string]any {
		return map[string]any{"name": "put", "args": map[string]any{"name": name, "text": text}}
	}
	remove := map[string]any{"name": "remove", "args": map[string]any{"name": "milk"}}
	Serve(map[string]any{
		"title":    "notes in Go",
		"database": "notes.sqlite",
		"calls":    []any{put("milk", "buy"), put("milk", "bought"), remove},
		"beat":     put("heartbeat", "alive"),
		"rows":     []string{"SELECT name, text FROM notes"},
	}, &notes{memoryFirst: len(os.Args) > 1 && os.Args[1] == "memory-first"})
}
