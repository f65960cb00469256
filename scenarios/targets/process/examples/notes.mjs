// Notes in memory and in SQLite, as a program that tornpage can put under test. Needs Node 22.13 or later.
//
//   tornpage sweep --target 'command:node notes.mjs'                  holds
//   tornpage sweep --target 'command:node notes.mjs memory-first'     caught

import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";

class Notes {
  constructor(path, journalMode, synchronous) {
    this.db = new DatabaseSync(path, { timeout: 1000 });
    try {
      this.db.exec(`PRAGMA journal_mode = ${journalMode}`);
      this.db.exec(`PRAGMA synchronous = ${synchronous}`);
      this.db.exec("CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT)");
      const rows = this.db.prepare("SELECT name, text FROM notes").all();
      this.notes = new Map(rows.map((row) => [row.name, row.text]));
    } catch (error) {
      this.db.close();
      throw error;
    }
  }

  // Persist first: memory changes when SQLite has said that the change is there.
  put({ name, text }) {
    this.db.prepare("INSERT OR REPLACE INTO notes VALUES (?, ?)").run(name, text);
    this.notes.set(name, text);
  }

  remove({ name }) {
    if (!this.notes.has(name)) throw new Refused(`no such note: ${name}`);
    this.db.prepare("DELETE FROM notes WHERE name = ?").run(name);
    this.notes.delete(name);
  }

  call(name, args) {
    return this[name](args);
  }

  close() {
    this.db.close();
  }
}

class MemoryFirst extends Notes {
  // The reported defect: memory changes first, and stays changed when the write throws.
  put({ name, text }) {
    this.notes.set(name, text);
    this.db.prepare("INSERT OR REPLACE INTO notes VALUES (?, ?)").run(name, text);
  }

  remove({ name }) {
    if (!this.notes.delete(name)) throw new Refused(`no such note: ${name}`);
    this.db.prepare("DELETE FROM notes WHERE name = ?").run(name);
  }
}

class Refused extends Error {}

// -- what tornpage needs to know, and the protocol ---------------------------------------------------------

const Store = process.argv[2] === "memory-first" ? MemoryFirst : Notes;
const description = {
  title: "notes in memory and in SQLite, in JavaScript",
  database: "notes.sqlite",
  calls: [
    { name: "put", args: { name: "milk", text: "buy" } },
    { name: "put", args: { name: "milk", text: "bought" } },
    { name: "remove", args: { name: "milk" } },
  ],
  beat: { name: "put", args: { name: "heartbeat", text: "alive" } },
  rows: ["SELECT name, text FROM notes"],
  configurations: ["wal/FULL", "delete/FULL"],
};

let store = null;

function answer(request) {
  switch (request.do) {
    case "describe":
      return { protocol: 1, pid: process.pid, description };
    case "open":
      store = new Store(join(request.directory, description.database), request.journal_mode, request.synchronous);
      return {};
    case "call":
      store.call(request.action, request.args);
      return {};
    case "view":
      return { view: Object.fromEntries(store.notes) };
    case "close":
      store.close();
      store = null;
      return {};
  }
  throw new Error(`unknown request: ${request.do}`);
}

for await (const line of createInterface({ input: process.stdin })) {
  let said;
  try {
    said = { answer: "done", ...answer(JSON.parse(line)) };
  } catch (error) {
    said = { answer: error instanceof Refused ? "refused" : "failed", message: error.message };
  }
  process.stdout.write(JSON.stringify(said) + "\n");
}
