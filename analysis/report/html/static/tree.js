// Folders and files as a tree: a row opens to what lies in it. Rows are made when their folder is opened.

const TREE_ROWS = 100;

class FolderTree {
  constructor(columns, place) {
    this.columns = columns;
    this.children = new Map();
    columns.parent.forEach((parent, row) => {
      if (!this.children.has(parent)) this.children.set(parent, []);
      this.children.get(parent).push(row);
    });
    for (const rows of this.children.values()) rows.sort((a, b) => columns.blocked[b] - columns.blocked[a]);
    this.most = Math.max(...(this.children.get(-1) ?? []).map((row) => columns.blocked[row]), 1e-9);
    this.body = element("tbody");
    const heads = ["folder or file", "waited", "requests", "fetches", "downloaded"];
    const head = element("tr", {}, ...heads.map((name, number) => element("th", { scope: "col", className: number ? "plain" : "plain text", textContent: name })));
    const table = element("table", { className: "tree" }, element("thead", {}, head), this.body);
    table.setAttribute("role", "treegrid");
    table.setAttribute("aria-labelledby", "folders");
    place.append(element("div", { className: "scroll" }, table));
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.add(-1, 0, null);
    this.openAlone();
    this.body.querySelector("tr").tabIndex = 0;
  }

  // Opens folders as long as there is but one, so that the first look shows a choice.
  openAlone() {
    let rows = this.children.get(-1) ?? [];
    while (rows.length === 1 && this.children.has(rows[0])) {
      this.open(this.body.querySelector(`tr[data-node="${rows[0]}"]`));
      rows = this.children.get(rows[0]);
    }
  }

  add(parent, depth, after) {
    const rows = this.children.get(parent) ?? [];
    const rowElements = rows.slice(0, TREE_ROWS).map((row) => this.row(row, depth));
    if (rows.length > TREE_ROWS) {
      const rest = rows.slice(TREE_ROWS).reduce((total, row) => total + this.columns.blocked[row], 0);
      rowElements.push(element("tr", {}, this.name(`${(rows.length - TREE_ROWS).toLocaleString("en")} more, which took ${seconds(rest)}`, depth)));
    }
    for (const each of rowElements) each.dataset.depth = depth;
    if (after) after.after(...rowElements); else this.body.append(...rowElements);
  }

  name(text, depth) {
    const cell = element("td", { className: "text", textContent: text });
    cell.style.paddingLeft = `${8 + 18 * depth}px`;
    return cell;
  }

  row(row, depth) {
    const { columns } = this;
    const hasParts = this.children.has(row);
    const name = this.name(`${columns.name[row]}${columns.folder[row] ? "/" : ""}`, depth);
    if (hasParts) name.prepend(element("span", { className: "twisty", ariaHidden: "true" }));
    const bar = element("span", { className: "share" });
    bar.style.width = `${(100 * columns.blocked[row]) / this.most}%`;
    const waited = element("td", { className: "waited" }, bar, element("span", { textContent: seconds(columns.blocked[row]) }));
    const counts = ["requests", "fetches"].map((key) => element("td", { textContent: columns[key][row].toLocaleString("en") }));
    const rowElement = element("tr", { tabIndex: -1 }, name, waited, ...counts, element("td", { textContent: size(columns.bytes[row]) }));
    [...rowElement.cells].forEach((cell, number) => { cell.dataset.label = ["", "waited", "requests", "fetches", "downloaded"][number]; });
    rowElement.dataset.node = row;
    rowElement.setAttribute("aria-level", depth + 1);
    if (hasParts) {
      rowElement.setAttribute("aria-expanded", "false");
      rowElement.className = "linked";
      rowElement.addEventListener("click", () => { if (!getSelection().toString()) this.toggle(rowElement); });
    }
    return rowElement;
  }

  open(row) {
    row.setAttribute("aria-expanded", "true");
    this.add(Number(row.dataset.node), Number(row.dataset.depth) + 1, row);
  }

  close(row) {
    row.setAttribute("aria-expanded", "false");
    while (row.nextElementSibling && Number(row.nextElementSibling.dataset.depth) > Number(row.dataset.depth)) row.nextElementSibling.remove();
  }

  toggle(row) { if (row.getAttribute("aria-expanded") === "true") this.close(row); else if (row.hasAttribute("aria-expanded")) this.open(row); }

  key(event) {
    const row = event.target.closest("tr");
    const expanded = row?.getAttribute("aria-expanded");
    const next = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling }[event.key];
    if (next) next.focus();
    else if (event.key === "ArrowRight" && expanded === "false") this.open(row);
    else if (event.key === "ArrowLeft" && expanded === "true") this.close(row);
    else if (event.key === "Enter") this.toggle(row);
    else return;
    event.preventDefault();
  }
}
