// The tornpage protocol for Node: copy this file beside your adapter. You write `open`, `call`, `view` and `close`.
//
//   serve(description, { open(where) {}, call(action, args, nowMs) {}, view() {}, close() {} });
//
// `where` has directory, journalMode, synchronous and nowMs. What `call` returns is its answer; what it throws has
// failed, or is refused if it is a Refused. All of them may be async. What is logged goes to standard error.

import { writeSync } from "node:fs";
import { createInterface } from "node:readline";

export class Refused extends Error {}

const parts = {
  describe: (adapter, description) => ({ protocol: 1, pid: process.pid, description }),
  open: async (adapter, _, r) => {
    const where = { directory: r.directory, journalMode: r.journal_mode, synchronous: r.synchronous, nowMs: r.now_ms };
    const database = await adapter.open(where);
    return typeof database === "string" ? { database } : {};
  },
  call: async (adapter, _, r) => {
    const value = await adapter.call(r.action, r.args, r.now_ms);
    return value === undefined ? {} : { value };
  },
  view: async (adapter) => ({ view: await adapter.view() }),
  close: async (adapter) => (await adapter.close(), {}),
};

function say(answer) {
  let rest = Buffer.from(JSON.stringify(answer) + "\n");
  while (rest.length) rest = rest.subarray(writeSync(1, rest));
}

export async function serve(description, adapter) {
  console.log = console.info = console.debug = console.error;
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    try {
      say({ answer: "done", ...(await parts[request.do](adapter, description, request)) });
    } catch (error) {
      say({ answer: error instanceof Refused ? "refused" : "failed", message: String(error?.message ?? error) });
    }
  }
}
