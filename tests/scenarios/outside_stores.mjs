// A store of numbers with one defect each, by its first argument; "sound" and "meta-synced" have none.

import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";

const mode = process.argv[2] ?? "sound";
const description = {
  database: "n.db",
  calls: [
    { name: "put", args: { name: "a", n: 1 } },
    { name: "put", args: { name: "b", n: 2 } },
    { name: "put", args: { name: "a", n: 3 } },
  ],
  beat: { name: "put", args: { name: "beat", n: 0 } },
  rows: ["SELECT name, n FROM t"],
};

let db, memory, directory;
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");

function open(request) {
  directory = request.directory;
  if (existsSync(join(directory, "meta")) && !/^changes \d+\n$/.test(readFileSync(join(directory, "meta"), "utf8")))
    throw new Error("meta is damaged");
  db = new DatabaseSync(join(directory, "n.db"), { timeout: 1000 });
  db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = ${mode === "off" ? "OFF" : "FULL"}`);
  db.exec("CREATE TABLE IF NOT EXISTS t(name TEXT PRIMARY KEY, n INTEGER)");
  memory = new Map(db.prepare("SELECT name, n FROM t").all().map((row) => [row.name, row.n]));
}

function put({ name, n }) {
  db.exec("BEGIN IMMEDIATE");
  db.prepare("INSERT OR REPLACE INTO t VALUES (?, ?)").run(name, n);
  if (mode === "answers-early") say({ answer: "done" });
  db.exec("COMMIT");
  memory.set(name, n);
  if (!mode.startsWith("meta")) return;
  const file = openSync(join(directory, "meta.new"), "w");
  writeSync(file, `changes ${memory.size}\n`);
  if (mode === "meta-synced") fsyncSync(file);
  closeSync(file);
  renameSync(join(directory, "meta.new"), join(directory, "meta"));
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  try {
    let answer = {};
    if (request.do === "describe") answer = { protocol: 1, description };
    if (request.do === "open") open(request);
    if (request.do === "call") put(request.args);
    if (request.do === "view") answer = { view: Object.fromEntries(memory) };
    if (request.do === "close") db.close();
    if (mode !== "answers-early" || request.do !== "call") say({ answer: "done", ...answer });
  } catch (error) {
    say({ answer: "failed", message: error.message });
  }
}
