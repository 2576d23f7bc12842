// Tables: rows are made as they are wanted. Every name goes in as text, never as markup.

const PAGE_ROWS = 50;

function seconds(value) {
  if (value === 0) return "0 s";
  for (const [limit, factor, unit] of [[1e-3, 1e6, "µs"], [1, 1e3, "ms"]]) {
    if (Math.abs(value) < limit * 0.9995) return `${digits(value * factor)} ${unit}`;
  }
  return `${digits(value)} s`;
}

function size(value) {
  for (const [limit, unit] of [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (Math.abs(value) >= limit * 0.9995) return `${digits(value / limit)} ${unit}`;
  }
  return value === 0 ? "0" : `${value} B`;
}

function digits(value) {
  if (Math.abs(value) >= 99.95) return Math.round(value).toLocaleString("en");
  return Math.abs(value) >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

const FORMATS = {
  s: seconds,
  bytes: size,
  n: (value) => value.toLocaleString("en"),
  x: (value) => `${value.toFixed(2)}×`,
  text: (value) => value,
};

// The text of a cell; what was not observed has none.
function told({ values, unit, units, signed }, row) {
  if (values[row] === null) return null;
  return (signed && values[row] > 0 ? "+" : "") + FORMATS[units?.[row] ?? unit](values[row]);
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

class DataTable {
  constructor(spec, place, choose) {
    Object.assign(this, { spec, choose, sorted: null, text: "", shown: PAGE_ROWS });
    this.own = { phases: "phase", tokens: "token", files: "file", fetches: "fetch" }[spec.key];
    this.matches = () => true;
    this.isChosen = () => false;
    this.count = spec.columns[0].values.length;
    this.input = element("input", { type: "search", placeholder: "Filter", ariaLabel: "Filter this table" });
    this.input.addEventListener("input", () => { this.text = this.input.value.toLowerCase(); this.shown = PAGE_ROWS; this.draw(); });
    this.note = element("span");
    this.more = element("button", { type: "button", textContent: "Show more" });
    this.more.addEventListener("click", () => { this.shown += 200; this.draw(); });
    this.body = element("tbody");
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.heads = spec.columns.map((column, number) => this.head(column, number));
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...this.heads)), this.body);
    place.append(
      element("div", { className: "tools" }, this.input, this.note, this.more),
      element("div", { className: "scroll" }, table),
    );
    this.draw();
  }

  head(column, number) {
    const button = element("button", { type: "button", textContent: column.name });
    const head = element("th", { scope: "col", className: column.unit === "text" ? "text" : "" }, button);
    if (column.unit === "text") head.style.minWidth = `${Math.min(column.values.reduce((most, each) => Math.max(most, each.length), 6), 44)}ch`;
    button.addEventListener("click", () => this.sort(number));
    return head;
  }

  sort(number) {
    const down = this.sorted?.number === number ? !this.sorted.down : this.spec.columns[number].unit !== "text";
    this.sorted = { number, down };
    this.heads.forEach((head, place) => {
      if (place === number) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.draw();
  }

  // Rows that match what is chosen and what is typed, in their order.
  order() {
    const { columns } = this.spec;
    const rows = [];
    for (let row = 0; row < this.count; row++) if (this.matches(row) && (!this.text || this.contains(row))) rows.push(row);
    if (this.sorted) {
      const { number, down } = this.sorted;
      const { values, unit } = columns[number];
      const sign = down ? -1 : 1;
      const compare = unit === "text" ? (a, b) => (a < b ? -1 : a > b ? 1 : 0) : (a, b) => a - b;
      rows.sort((a, b) => {
        const [one, two] = [values[a], values[b]];
        if (one === null || two === null) return (one === null) - (two === null);
        return sign * compare(one, two) || a - b;
      });
    }
    return rows;
  }

  contains(row) {
    return this.spec.columns.some((column) => told(column, row)?.toLowerCase().includes(this.text));
  }

  draw(most = this.shown) {
    const rows = this.order();
    this.body.replaceChildren(...rows.slice(0, most).map((row, place) => this.row(row, place)));
    const cut = this.spec.total > this.count ? `; the longest ${this.count.toLocaleString("en")} of ${this.spec.total.toLocaleString("en")}` : "";
    this.note.textContent = `${Math.min(most, rows.length).toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows${cut}`;
    this.more.hidden = rows.length <= most;
  }

  row(row, place) {
    const cells = this.spec.columns.map((column) =>
      element("td", { className: column.unit === "text" ? "text" : "", textContent: told(column, row) ?? "n/a" }));
    const made = element("tr", { tabIndex: place === 0 ? 0 : -1 }, ...cells);
    made.dataset.row = row;
    if (Object.keys(this.spec.links).length) {
      made.className = "linked";
      made.setAttribute("aria-selected", this.isChosen(row));
      made.addEventListener("click", () => { if (!getSelection().toString()) this.choose(this.spec, row); });
    }
    return made;
  }

  key(event) {
    const row = event.target.closest("tr");
    const next = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling }[event.key];
    if (next) { next.focus(); event.preventDefault(); }
    if (event.key === "Enter" && row && Object.keys(this.spec.links).length) {
      const number = Number(row.dataset.row);
      this.choose(this.spec, number);
      this.body.querySelector(`tr[data-row="${number}"]`)?.focus();
    }
  }
}
