// node notes.mjs [memory-first]
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Refused, serve } from "./tornpage.mjs";

const memoryFirst = process.argv[2] === "memory-first";
let db, notes;

const description = {
  title: "notes in Node",
  database: "notes.sqlite",
  calls: [
    { name: "put", args: { name: "milk", text: "buy" } },
    { name: "put", args: { name: "milk", text: "bought" } },
    { name: "remove", args: { name: "milk" } },
  ],
  beat: { name: "put", args: { name: "heartbeat", text: "alive" } },
  rows: ["SELECT name, text FROM notes"],
};

serve(description, {
  open({ directory, journalMode, synchronous }) {
    db = new DatabaseSync(join(directory, "notes.sqlite"), { timeout: 1000 });
    db.exec(`PRAGMA journal_mode = ${journalMode}; PRAGMA synchronous = ${synchronous}`);
    db.exec("CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT)");
    notes = new Map(db.prepare("SELECT name, text FROM notes").all().map((row) => [row.name, row.text]));
  },
  call(action, { name, text }) {
    if (action === "remove" && !notes.has(name)) throw new Refused("no such note");
    const remember = () => (action === "put" ? notes.set(name, text) : notes.delete(name));
    if (memoryFirst) remember();
    if (action === "put") db.prepare("INSERT OR REPLACE INTO notes VALUES (?, ?)").run(name, text);
    else db.prepare("DELETE FROM notes WHERE name = ?").run(name);
    remember();
  },
  view: () => Object.fromEntries(notes),
  close: () => db.close(),
});
