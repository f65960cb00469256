// The tornpage protocol for Go: copy this file beside your adapter. You write Open, Call, View and Close.
//
//	Serve(description, &adapter{})
//
// What Call returns is its answer, nil for none; an error has failed, or is refused if it is a Refused. Open returns ""
// or, where the store chooses it, the database's path. Log to standard error.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"runtime"
)

// Refused is the store's own no: nothing was tried.
type Refused string

func (r Refused) Error() string { return string(r) }

// Where says where, how and when a store is to be opened.
type Where struct {
	Directory   string `json:"directory"`
	JournalMode string `json:"journal_mode"`
	Synchronous string `json:"synchronous"`
	NowMs       int64  `json:"now_ms"`
}

// Adapter is what you write.
type Adapter interface {
	Open(where Where) (database string, err error)
	Call(action string, args map[string]any, nowMs int64) (any, error)
	View() (map[string]any, error)
	Close() error
}

// Serve answers requests until there are no more. `description` is as docs/any-language.md says, such as a map or a struct.
func Serve(description any, adapter Adapter) {
	// System calls are counted by thread, and a goroutine may change its own.
	runtime.LockOSThread()
	said := os.Stdout
	os.Stdout = os.Stderr
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		answer, err := answerTo(line, description, adapter)
		var refused Refused
		switch {
		case errors.As(err, &refused):
			answer = map[string]any{"answer": "refused", "message": err.Error()}
		case err != nil:
			answer = map[string]any{"answer": "failed", "message": err.Error()}
		}
		text, err := json.Marshal(answer)
		if err != nil {
			text, _ = json.Marshal(map[string]any{"answer": "failed", "message": err.Error()})
		}
		said.Write(append(text, '\n'))
	}
}

func answerTo(line []byte, description any, adapter Adapter) (map[string]any, error) {
	request := struct {
		Where
		Do     string         `json:"do"`
		Action string         `json:"action"`
		Args   map[string]any `json:"args"`
	}{}
	if err := json.Unmarshal(line, &request); err != nil {
		return nil, err
	}
	answer := map[string]any{"answer": "done"}
	switch request.Do {
	case "describe":
		answer["protocol"], answer["pid"], answer["description"] = 1, os.Getpid(), description
	case "open":
		database, err := adapter.Open(request.Where)
		if database != "" {
			answer["database"] = database
		}
		return answer, err
	case "call":
		value, err := adapter.Call(request.Action, request.Args, request.NowMs)
		if value != nil {
			answer["value"] = value
		}
		return answer, err
	case "view":
		view, err := adapter.View()
		answer["view"] = view
		return answer, err
	case "close":
		return answer, adapter.Close()
	}
	return answer, nil
}
