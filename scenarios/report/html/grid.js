"use strict";

// An element; its text is only ever text.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.map((child) => (typeof child === "object" ? child : document.createTextNode(String(child)))));
  return element;
}

const number = (value) => value.toLocaleString("en");

// A table of cells that is walked through with the arrow keys; one stop on the way of the Tab key.
class Grid {
  constructor(box, { label, kinds, onCell, onColumn, onRow }) {
    Object.assign(this, { box, label, kinds, onCell, onColumn, onRow });
    this.lines = [];
    this.at = [0, 0];
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("click", (event) => this.open(event.target.closest("[data-line]"), false));
  }

  // `bands`: [{label, rows: [{key, label}]}]; `columns`: [{key, label, text}]; `counts`: Map of "row column" to numbers.
  show({ corner, columns, bands, counts, selected }) {
    this.lines = [];
    const table = make("table", { class: "map", role: "grid", "aria-label": this.label, "aria-rowcount": 1 + bands.reduce((sum, band) => sum + 1 + band.rows.length, 0) });
    const head = this.line(columns.map((column) => [make("th", { scope: "col", role: "columnheader", title: column.text, "aria-label": column.text }, make("span", {}, column.label)), null, column]));
    table.append(make("thead", {}, make("tr", { role: "row" }, make("th", { class: "corner", scope: "col" }, corner), ...head)));
    for (const band of bands) {
      const body = make("tbody", {}, make("tr", { class: "group", role: "row" }, make("th", { scope: "rowgroup", colspan: Math.min(columns.length + 1, 4) }, band.label)));
      for (const row of band.rows) {
        const header = make("th", { scope: "row", role: "rowheader", title: `${band.label}: ${row.label}` }, row.label);
        const cells = columns.map((column) => [this.cell(row, column, counts.get(`${row.key} ${column.key}`), selected), row, column]);
        body.append(make("tr", { role: "row" }, ...this.line([[header, row, null], ...cells])));
      }
      table.append(body);
    }
    this.box.replaceChildren(table);
    this.box.hidden = false;
    this.at = this.clamped(...this.at);
    this.lines[this.at[0]]?.[this.at[1]]?.element.setAttribute("tabindex", "0");
  }

  line(entries) {
    const y = this.lines.length;
    this.lines.push(entries.map(([element, row, column]) => ({ element, row, column })));
    return entries.map(([element], x) => {
      element.dataset.line = y;
      element.dataset.place = x;
      element.tabIndex = -1;
      return element;
    });
  }

  cell(row, column, counts, selected) {
    const cell = make("td", { role: "gridcell" });
    if (!counts) {
      cell.className = "empty";
      cell.setAttribute("aria-label", `${row.label}, ${column.text}: nothing`);
      return cell;
    }
    const all = counts.reduce((sum, count) => sum + count, 0);
    const kind = this.kinds[this.foremost(counts)];
    cell.className = kind.letter;
    cell.textContent = kind.letter;
    cell.style.setProperty("--bar", this.bar(counts, all));
    cell.style.backgroundImage = kind.letter === "n" ? "" : "var(--bar)";
    cell.style.backgroundSize = kind.letter === "n" ? "" : "100% 3px";
    cell.style.backgroundRepeat = "no-repeat";
    cell.style.backgroundPosition = "bottom";
    const words = this.kinds.flatMap((one, index) => (counts[index] ? [`${number(counts[index])} ${one.name}`] : []));
    cell.setAttribute("aria-label", `${row.label}, ${column.text}: ${words.join(", ")}`);
    cell.title = `${row.label}\n${column.text}\n${words.join(", ")}`;
    cell.setAttribute("aria-selected", String(selected?.[0] === row.key && selected?.[1] === column.key));
    return cell;
  }

  // The gravest that must not be overlooked, or else the most frequent.
  foremost(counts) {
    const grave = counts.findIndex((count, index) => count && this.kinds[index].grave);
    return grave >= 0 ? grave : counts.indexOf(Math.max(...counts));
  }

  bar(counts, all) {
    let until = 0;
    const parts = counts.map((count, index) => {
      const from = until;
      until += (100 * count) / all;
      return count ? `var(--${this.kinds[index].colour ?? this.kinds[index].letter}) ${from}% ${until}%` : "";
    });
    return `linear-gradient(to right, ${parts.filter(Boolean).join(", ")})`;
  }

  clamped(y, x) {
    const line = Math.max(0, Math.min(y, this.lines.length - 1));
    return [line, Math.max(0, Math.min(x, (this.lines[line]?.length ?? 1) - 1))];
  }

  // In the head there is nothing above the heads of the rows.
  moved(y, x, lines, places) {
    const before = y === 0 ? x + 1 : x;
    const [line] = this.clamped(y + lines, 0);
    return this.clamped(line, (line === 0 ? before - 1 : before) + places);
  }

  key(event) {
    const target = event.target.closest("[data-line]");
    if (!target) return;
    const [y, x] = [Number(target.dataset.line), Number(target.dataset.place)];
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0], PageDown: [10, 0], Home: [0, -1e6], End: [0, 1e6] };
    if (event.key in moves) {
      event.preventDefault();
      this.focus(...this.moved(y, x, ...moves[event.key]));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.open(target, true);
    }
  }

  focus(y, x) {
    this.lines[this.at[0]]?.[this.at[1]]?.element.setAttribute("tabindex", "-1");
    this.at = this.clamped(y, x);
    const element = this.lines[this.at[0]]?.[this.at[1]]?.element;
    element?.setAttribute("tabindex", "0");
    element?.focus();
  }

  back() {
    this.focus(...this.at);
  }

  open(target, byKey) {
    if (!target) return;
    const [y, x] = [Number(target.dataset.line), Number(target.dataset.place)];
    const { row, column } = this.lines[y][x];
    this.lines[this.at[0]]?.[this.at[1]]?.element.setAttribute("tabindex", "-1");
    this.at = [y, x];
    target.setAttribute("tabindex", "0");
    if (!row) this.onColumn?.(column, byKey);
    else if (!column) this.onRow?.(row, byKey);
    else if (!target.classList.contains("empty")) this.onCell(row, column, byKey);
  }
}
