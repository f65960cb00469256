"use strict";

// The crash states of each configuration along the workload; a cell opens to its operations.
class Crashes {
  constructor(data) {
    this.data = data;
    const colours = { e: "a", l: "r" };
    this.grid = new Grid(document.getElementById("crash-grid"), {
      label: "Crash states",
      kinds: data.kinds.map((kind) => ({ ...kind, colour: colours[kind.letter] ?? kind.letter, grave: "Fd".includes(kind.letter) })),
      onCell: (row, column, byKey) => this.open(row, column, byKey),
    });
  }

  start() {
    const { kinds, configurations } = this.data;
    const legend = document.getElementById("crash-legend");
    legend.append(...kinds.map(({ letter, meaning }) => make("li", {}, make("span", { class: `key ${letter}`, "aria-hidden": "true" }, letter), ` ${meaning}`)));
    const columns = new Map();
    const counts = new Map();
    for (const { name, positions } of configurations) {
      for (const [, , step, call, ...shares] of positions) {
        const key = `${step}.${call}`;
        if (!columns.has(key)) columns.set(key, { key, step, label: `${step} ${call.split("(")[0]}`, text: `${step} ${call}` });
        const own = counts.get(`${name} ${key}`) ?? new Array(kinds.length).fill(0);
        shares.forEach((share, index) => (own[index] += share));
        counts.set(`${name} ${key}`, own);
      }
    }
    this.columns = [...columns.values()].sort((one, other) => one.step - other.step);
    this.counts = counts;
    this.show(null);
    document.getElementById("crash-detail").addEventListener("keydown", (event) => event.key === "Escape" && this.grid.back());
  }

  show(selected) {
    const rows = this.data.configurations.map(({ name }) => ({ key: name, label: name }));
    this.grid.show({ corner: "call →", columns: this.columns, bands: [{ label: "configuration", rows }], counts: this.counts, selected });
  }

  open(row, column, byKey) {
    this.show([row.key, column.key]);
    const { positions } = this.data.configurations.find(({ name }) => name === row.key);
    const own = positions.filter(([, , step, call]) => `${step}.${call}` === column.key);
    document.getElementById("crash-title").textContent = `${row.label}, ${column.text}: ${number(own.length)} ${own.length === 1 ? "operation" : "operations"}`;
    document.getElementById("crash-rows").replaceChildren(
      ...own.map(([position, operation, , , ...shares]) =>
        make("tr", {}, make("th", { scope: "row" }, number(position)), make("td", { class: "text" }, operation), ...shares.map((share) => make("td", {}, share ? number(share) : "")))),
    );
    document.getElementById("crash-detail").hidden = false;
    if (byKey) document.getElementById("crash-title").focus();
    else this.grid.back();
  }
}
