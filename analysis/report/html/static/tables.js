// Tables: rows are made as they are wanted. Every name goes in as text, never as markup.

const PAGE_ROWS = 50;
const PHONE_ROWS = 8;
const PHONE_COLUMNS = 8;
const phone = matchMedia("(max-width: 700px)");

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
  id: String,
  text: (value) => value,
};

// The text of a cell; what was not observed has none.
function cellText({ values, unit, units, signed }, row) {
  if (values[row] === null) return null;
  return (signed && values[row] > 0 ? "+" : "") + FORMATS[units?.[row] ?? unit](values[row]);
}

function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

// A column that tells something: not all of it is nothing.
function tells({ values, unit }) { return values.some((value) => value !== null && value !== "" && (unit === "text" || value !== 0)); }

class DataTable {
  constructor(spec, place, choose) {
    Object.assign(this, { spec, choose, sorted: null, text: "", all: false });
    this.linkKey = { phases: "phase", tokens: "token", files: "file", fetches: "fetch" }[spec.key];
    this.matches = () => true;
    this.isChosen = () => false;
    this.count = spec.columns[0].values.length;
    this.rowsShown = phone.matches ? PHONE_ROWS : PAGE_ROWS;
    this.telling = spec.columns.map((_, number) => number).filter((number) => number === 0 || tells(spec.columns[number]));
    this.input = element("input", { type: "search", placeholder: "Filter", ariaLabel: "Filter this table" });
    this.input.addEventListener("input", () => { this.text = this.input.value.toLowerCase(); this.rowsShown = PAGE_ROWS; this.draw(); });
    this.note = element("span");
    this.more = element("button", { type: "button", textContent: "Show more rows" });
    this.more.addEventListener("click", () => { this.rowsShown += 200; this.draw(); });
    this.wider = element("button", { type: "button" });
    this.wider.addEventListener("click", () => { this.all = !this.all; this.fit(); });
    this.body = element("tbody");
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.heads = spec.columns.map((column, number) => this.head(column, number));
    this.headRow = element("tr");
    this.table = element("table", {}, element("thead", {}, this.headRow), this.body);
    this.frame = element("div", { className: "scroll" }, this.table);
    place.append(element("div", { className: "tools" }, this.input, this.note, this.more, this.wider), this.frame);
    this.fit();
    new ResizeObserver(() => { if (this.frame.clientWidth && this.frame.clientWidth !== this.width) this.fit(); }).observe(this.frame);
  }

  // Shows as many columns as there is room for, in their order; a button shows all.
  fit() {
    this.width = this.frame.clientWidth;
    this.frame.classList.toggle("all", this.all);
    this.columns = this.all ? this.heads.map((_, number) => number) : this.telling;
    if (!this.all && phone.matches) this.columns = this.columns.slice(0, PHONE_COLUMNS);
    this.draw();
    while (!this.all && !phone.matches && this.columns.length > 2 && this.frame.scrollWidth > this.frame.clientWidth) {
      const over = this.frame.scrollWidth - this.frame.clientWidth;
      let keep = this.columns.length - 1;
      for (let gained = this.heads[this.columns[keep]].offsetWidth; gained < over && keep > 2; gained += this.heads[this.columns[keep]].offsetWidth) keep -= 1;
      this.columns = this.columns.slice(0, keep);
      this.draw();
    }
    const hidden = this.heads.length - this.columns.length;
    this.wider.hidden = !this.all && !hidden;
    this.wider.setAttribute("aria-pressed", String(this.all));
    this.wider.textContent = this.all ? "Fewer columns" : `All columns (${hidden} more)`;
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
    return this.spec.columns.some((column) => cellText(column, row)?.toLowerCase().includes(this.text));
  }

  draw(most = this.rowsShown) {
    this.headRow.replaceChildren(...this.columns.map((number) => this.heads[number]));
    const rows = this.order();
    this.body.replaceChildren(...rows.slice(0, most).map((row, place) => this.row(row, place)));
    const cut = this.spec.total > this.count ? `; the longest ${this.count.toLocaleString("en")} of ${this.spec.total.toLocaleString("en")}` : "";
    this.note.textContent = `${Math.min(most, rows.length).toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows${cut}`;
    this.more.hidden = rows.length <= most;
  }

  row(row, place) {
    const cells = this.columns.map((number) => this.cell(this.spec.columns[number], row));
    const node = element("tr", { tabIndex: place === 0 ? 0 : -1 }, ...cells);
    node.dataset.row = row;
    if (Object.keys(this.spec.links).length) {
      node.className = "linked";
      node.setAttribute("aria-selected", this.isChosen(row));
      node.addEventListener("click", () => { if (!getSelection().toString()) this.choose(this.spec, row); });
    }
    return node;
  }

  cell(column, row) {
    const node = element("td", { className: column.unit === "text" ? "text" : "", textContent: cellText(column, row) ?? "n/a" });
    node.dataset.label = column.name;
    return node;
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
