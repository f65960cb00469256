"use strict";

// The points of the run, the filters over them, the map and the list. What is chosen lies in the address, after the #.
class Points {
  static FILTERS = ["configuration", "call", "search", "effect", "outcome"];
  static CHOSEN = [...Points.FILTERS, "row", "column", "point"];
  static A_PAGE = 20;
  // More columns than this nobody reads: neighbours share one.
  static MOST_OF_AN_OPERATION = 24;

  constructor(data) {
    this.data = data;
    this.text = (index) => (index < 0 ? "" : data.texts[index]);
    this.points = Points.unpacked(data);
    this.calls = this.callsInOrder();
    this.chosen = {};
    this.page = 0;
    this.form = document.getElementById("filters");
    this.grid = new Grid(document.getElementById("grid"), {
      label: "Fault map",
      kinds: data.outcomes.map((outcome) => ({ ...outcome, name: outcome.name.replace("-", " "), grave: outcome.letter === "F" })),
      onCell: (row, column, byKey) => this.choose({ row: row.key, column: column.key, point: "" }, byKey && "points-title"),
      onColumn: (column, byKey) => this.choose(this.chosen.call ? { row: "", column: column.key, point: "" } : { call: column.key, row: "", column: "", point: "" }, byKey && "grid"),
      onRow: (row, byKey) => this.choose({ ...row.filter, row: "", column: "", point: "" }, byKey && "grid"),
    });
  }

  // One typed array for each property, in the order of the file.
  static unpacked({ groups, outcomes }) {
    const letters = outcomes.map((outcome) => outcome.letter);
    let size = 0;
    for (const group of groups) for (const series of group[4]) size += series[3].length;
    const names = ["search", "configuration", "step", "call", "operation", "effect", "condition", "outcome"];
    const points = Object.fromEntries(names.map((name) => [name, new Int32Array(size)]));
    points.size = size;
    let at = 0;
    for (const [search, configuration, step, call, all] of groups) {
      for (const [operation, effect, conditions, came] of all) {
        for (let index = 0; index < came.length; index += 1, at += 1) {
          points.search[at] = search;
          points.configuration[at] = configuration;
          points.step[at] = step;
          points.call[at] = call;
          points.operation[at] = operation;
          points.effect[at] = effect;
          points.condition[at] = conditions[index];
          points.outcome[at] = letters.indexOf(came[index]);
        }
      }
    }
    return points;
  }

  callKey(index) {
    return `${this.points.step[index]}.${this.points.call[index]}`;
  }

  callsInOrder() {
    const found = new Map();
    for (let index = 0; index < this.points.size; index += 1) {
      const key = this.callKey(index);
      if (!found.has(key)) found.set(key, { key, step: this.points.step[index], name: this.text(this.points.call[index]) });
    }
    const calls = [...found.values()].sort((one, other) => one.step - other.step);
    for (const call of calls) {
      const place = call.step === this.data.afterCrash ? "after a crash: " : call.step === this.data.anywhere ? "" : `${call.step} `;
      call.text = place + call.name;
      // In the head of a column there is room for a name, not for its arguments.
      call.label = place + call.name.split("(")[0];
    }
    return calls;
  }

  // -- what is chosen ----------------------------------------------------------------------------------------

  start() {
    const options = {
      configuration: this.distinct("configuration").map((name) => [name, name]),
      call: this.calls.map((call) => [call.key, call.text.length > 60 ? `${call.text.slice(0, 59)}…` : call.text]),
      search: this.distinct("search").map((name) => [name, name || "not said"]),
      effect: this.distinct("effect").sort().map((name) => [name, name]),
      outcome: this.data.outcomes.map((outcome) => [outcome.name, outcome.name.replace("-", " ")]),
    };
    for (const [name, values] of Object.entries(options)) {
      this.form.elements[name].append(...values.map(([value, text]) => make("option", { value }, text)));
    }
    this.form.addEventListener("change", (event) => this.choose({ [event.target.name]: event.target.value, row: "", column: "", point: "" }));
    this.form.addEventListener("reset", () => this.choose(Object.fromEntries(Points.CHOSEN.map((name) => [name, ""]))));
    document.getElementById("before").addEventListener("click", () => this.turn(-1));
    document.getElementById("after").addEventListener("click", () => this.turn(1));
    document.getElementById("points").addEventListener("keydown", (event) => event.key === "Escape" && this.grid.back());
    window.addEventListener("hashchange", () => this.read());
    for (const id of ["filters", "points", "grid-help"]) document.getElementById(id).hidden = false;
    this.read();
  }

  distinct(name) {
    return [...new Set(this.points[name])].map((index) => this.text(index));
  }

  // A hash without an equals sign is an anchor, and no choice.
  read() {
    if (location.hash && !location.hash.includes("=")) return;
    const wanted = new URLSearchParams(location.hash.slice(1));
    this.chosen = Object.fromEntries(Points.CHOSEN.map((name) => [name, wanted.get(name) ?? ""]));
    for (const name of Points.FILTERS) {
      const known = [...this.form.elements[name].options].some((option) => option.value === this.chosen[name]);
      if (!known) this.chosen[name] = "";
    }
    this.show(true);
  }

  choose(changes, focus) {
    const zoomed = "call" in changes && changes.call !== this.chosen.call;
    this.chosen = { ...this.chosen, ...changes, ...(zoomed ? { row: "", column: "" } : {}) };
    const kept = new URLSearchParams(Object.entries(this.chosen).filter(([, value]) => value));
    history.replaceState(null, "", `#${kept}`);
    this.show(true);
    if (focus === "grid") this.grid.back();
    else if (focus) document.getElementById(focus).focus();
  }

  // -- showing -----------------------------------------------------------------------------------------------

  show(anew) {
    for (const name of Points.FILTERS) this.form.elements[name].value = this.chosen[name];
    this.passing = this.filtered();
    this.columns = this.chosen.call ? this.operationColumns() : this.calls.map(({ key, label, text }) => ({ key, label, text }));
    this.showWhere();
    this.showMap();
    this.listed = this.inCell();
    if (anew) this.page = Math.max(0, Math.floor(this.listed.indexOf(Number(this.chosen.point || -1)) / Points.A_PAGE));
    this.showList();
  }

  filtered() {
    const { configuration, call, search, effect, outcome } = this.chosen;
    const of = (text) => (text ? this.data.texts.indexOf(text) : null);
    const [wantedConfiguration, wantedSearch, wantedEffect] = [of(configuration), of(search), of(effect)];
    const wantedOutcome = outcome ? this.data.outcomes.findIndex((one) => one.name === outcome) : null;
    const [step, name] = call ? call.split(".").map(Number) : [null, null];
    const points = this.points;
    const found = [];
    for (let index = 0; index < points.size; index += 1) {
      if (wantedConfiguration !== null && points.configuration[index] !== wantedConfiguration) continue;
      if (wantedSearch !== null && points.search[index] !== wantedSearch) continue;
      if (wantedEffect !== null && points.effect[index] !== wantedEffect) continue;
      if (wantedOutcome !== null && points.outcome[index] !== wantedOutcome) continue;
      if (call && (points.step[index] !== step || points.call[index] !== name)) continue;
      found.push(index);
    }
    return found;
  }

  ordinal(index) {
    return this.data.ordinals[this.points.condition[index]];
  }

  // The operations of the call that is chosen; where there are too many, neighbours share a column.
  operationColumns() {
    const last = new Map();
    for (const index of this.passing) {
      const operation = this.points.operation[index];
      last.set(operation, Math.max(last.get(operation) ?? 0, this.ordinal(index)));
    }
    this.widths = new Map([...last].map(([operation, most]) => [operation, Math.max(1, Math.ceil(most / Points.MOST_OF_AN_OPERATION))]));
    const columns = new Map();
    for (const index of this.passing) {
      const key = this.columnOf(index);
      if (columns.has(key)) continue;
      const operation = this.text(this.points.operation[index]);
      const width = this.widths.get(this.points.operation[index]);
      const from = Number(key.split(".")[1]) * width + 1;
      const place = this.ordinal(index) === 0 && width === 1 ? "" : width === 1 ? `@${this.ordinal(index)}` : `@${from}–${from + width - 1}`;
      columns.set(key, { key, operation, from, label: operation + place, text: operation + place });
    }
    return [...columns.values()].sort((one, other) => one.operation.localeCompare(other.operation, "en") || one.from - other.from);
  }

  columnOf(index) {
    if (!this.chosen.call) return this.callKey(index);
    const operation = this.points.operation[index];
    return `${operation}.${Math.floor((this.ordinal(index) - 1) / this.widths.get(operation))}`;
  }

  rowsOf(index) {
    const { configuration, search, effect } = this.points;
    return [`c${configuration[index]}`, `e${search[index]}.${effect[index]}`];
  }

  showMap() {
    const counts = new Map();
    const rows = new Map();
    for (const index of this.passing) {
      const column = this.columnOf(index);
      for (const row of this.rowsOf(index)) {
        if (!rows.has(row)) rows.set(row, index);
        const key = `${row} ${column}`;
        let own = counts.get(key);
        if (!own) counts.set(key, (own = new Array(this.data.outcomes.length).fill(0)));
        own[this.points.outcome[index]] += 1;
      }
    }
    this.grid.show({
      corner: this.chosen.call ? "operation →" : "call →",
      columns: this.columns,
      bands: this.bands(rows),
      counts,
      selected: [this.chosen.row, this.chosen.column],
    });
  }

  bands(rows) {
    const bands = new Map([["configuration", []]]);
    for (const [key, index] of rows) {
      const [configuration, search, effect] = ["configuration", "search", "effect"].map((name) => this.text(this.points[name][index]));
      const isConfiguration = key.startsWith("c");
      const band = isConfiguration ? "configuration" : search || "effect";
      if (!bands.has(band)) bands.set(band, []);
      bands.get(band).push({ key, label: isConfiguration ? configuration : effect, filter: isConfiguration ? { configuration } : { search, effect } });
    }
    for (const [band, them] of bands) if (band !== "configuration") them.sort((one, other) => one.label.localeCompare(other.label, "en"));
    return [...bands].map(([label, them]) => ({ label, rows: them }));
  }

  showWhere() {
    const where = document.getElementById("where");
    const call = this.calls.find((one) => one.key === this.chosen.call);
    where.hidden = !call;
    if (!call) return;
    const back = make("button", { type: "button" }, "← All calls");
    back.addEventListener("click", () => this.choose({ call: "", row: "", column: "", point: "" }, "grid"));
    where.replaceChildren(back, make("span", {}, "The operations of ", make("code", {}, call.text)));
  }

  // -- the list ----------------------------------------------------------------------------------------------

  // What passes the filters and lies in the cell that is chosen; findings first, then what never fired.
  inCell() {
    const { row, column } = this.chosen;
    const found = this.passing.filter((index) => (!row || this.rowsOf(index).includes(row)) && (!column || this.columnOf(index) === column));
    const rank = (index) => Math.min(this.points.outcome[index], 2);
    return found.sort((one, other) => rank(one) - rank(other) || one - other);
  }

  turn(by) {
    this.page += by;
    this.chosen.point = "";
    this.showList();
    document.getElementById("points-title").focus();
  }

  showList() {
    const pages = Math.max(1, Math.ceil(this.listed.length / Points.A_PAGE));
    this.page = Math.max(0, Math.min(this.page, pages - 1));
    const shown = this.listed.slice(this.page * Points.A_PAGE, (this.page + 1) * Points.A_PAGE);
    document.getElementById("points-title").textContent = `${number(this.listed.length)} ${this.listed.length === 1 ? "point" : "points"}`;
    document.getElementById("points-about").textContent = this.about();
    document.getElementById("rows").replaceChildren(...shown.flatMap((index) => this.row(index)));
    document.getElementById("page-of").textContent = `page ${number(this.page + 1)} of ${number(pages)}`;
    document.getElementById("before").disabled = this.page === 0;
    document.getElementById("after").disabled = this.page === pages - 1;
  }

  about() {
    const said = Points.FILTERS.filter((name) => this.chosen[name] && name !== "call").map((name) => `${name} ${this.chosen[name]}`);
    const call = this.calls.find((one) => one.key === this.chosen.call);
    if (call) said.unshift(call.text);
    const column = this.columns.find((one) => one.key === this.chosen.column);
    if (column) said.push(column.text);
    if (this.chosen.row && this.listed.length) {
      const band = this.chosen.row.startsWith("c") ? "configuration" : "effect";
      said.push(this.text(this.points[band][this.listed[0]]));
    }
    return said.length ? `Of: ${said.join(" · ")}` : "All of them; a cell of the map, or a filter, keeps only some.";
  }

  row(index) {
    const outcome = this.data.outcomes[this.points.outcome[index]];
    const isOpen = this.chosen.point === String(index);
    const call = this.calls.find((one) => one.key === this.callKey(index));
    const condition = this.text(this.points.condition[index]);
    const button = make("button", { type: "button", "aria-expanded": isOpen, "aria-label": `${isOpen ? "Close" : "Repeat"} ${condition} in ${call.text}`, "data-point": index }, isOpen ? "Close" : "Repeat");
    button.addEventListener("click", () => {
      this.chosen.point = isOpen ? "" : String(index);
      this.choose({});
      document.querySelector(`[data-point="${index}"]`)?.focus();
    });
    const cells = [
      make("td", {}, make("span", { class: `key ${outcome.letter}`, "aria-hidden": "true" }, outcome.letter), ` ${outcome.name.replace("-", " ")}`),
      make("td", {}, condition),
      make("td", { title: call.text }, call.text.length > 80 ? `${call.text.slice(0, 79)}…` : call.text),
      make("td", {}, this.text(this.points.configuration[index])),
      make("td", {}, this.text(this.points.search[index])),
      make("td", {}, button),
    ];
    const line = make("tr", {}, ...cells);
    return isOpen ? [line, make("tr", { class: "detail" }, make("td", { colspan: cells.length }, ...this.detail(index, outcome, call)))] : [line];
  }

  detail(index, outcome, call) {
    const told = make("p", {}, make("strong", {}, outcome.name.replace("-", " ")), `: ${outcome.meaning}. In `, make("code", {}, call.text));
    const { line, note } = this.data.repeat[this.isOfWorkload(index) ? this.text(this.points.search[index]) : ""] ?? this.data.repeat[""];
    const filled = line.replace("{configuration}", quoted(this.text(this.points.configuration[index]))).replace("{condition}", quoted(this.text(this.points.condition[index])));
    const parts = [told, command(filled, "the line that repeats this point"), make("p", { class: "hint" }, `Repeats ${note}.`)];
    if (outcome.letter === "F") parts.push(make("p", {}, make("a", { href: "#findings" }, "To the findings")));
    return parts;
  }

  // What the search of crashes tried has no line of its own but its run's.
  isOfWorkload(index) {
    return this.points.step[index] < this.data.afterCrash;
  }
}

function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}
