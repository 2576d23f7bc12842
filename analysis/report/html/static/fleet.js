// Draws the pictures of a fleet, and sorts and filters its tables, which are rows of the page.

let data, doc;

function paint() {
  const style = getComputedStyle(document.documentElement);
  const [ink, faint] = ["--ink", "--faint"].map((name) => style.getPropertyValue(name).trim());
  for (const id of Object.values(data.roots)) {
    const plot = doc.get_model_by_id(id);
    for (const axis of [...plot.below, ...plot.left]) {
      axis.setv({ axis_label_text_color: faint, major_label_text_color: ink, axis_line_color: faint, major_tick_line_color: faint,
        minor_tick_line_color: null, axis_label_text_font_style: "normal" });
    }
    for (const grid of plot.center) if ("grid_line_color" in grid && grid.grid_line_color !== null) grid.grid_line_color = faint;
  }
}

// Every mark says what its class means when pointed at.
function addMeanings() {
  for (const id of Object.values(data.roots)) {
    for (const { data_source: source } of doc.get_model_by_id(id).renderers) {
      if (!source?.data) continue;
      const paints = source.data.paint ?? source.data.get?.("paint") ?? [];
      const columns = source.data instanceof Map ? Object.fromEntries(source.data) : { ...source.data };
      source.data = { ...columns, meaning: Array.from(paints, (each) => data.meanings[each]?.[1] ?? "") };
    }
  }
}

function value(cell) { return cell.dataset.sort === undefined ? cell.textContent : cell.dataset.sort === "" ? null : Number(cell.dataset.sort); }

function sort(table, number, head) {
  const down = head.getAttribute("aria-sort") !== "descending";
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, place) => [value(row.cells[number]), place, row]);
  rows.sort(([a, i], [b, j]) => {
    if (a === null || b === null) return (a === null) - (b === null) || i - j;
    return (down ? -1 : 1) * (a < b ? -1 : a > b ? 1 : 0) || i - j;
  });
  body.append(...rows.map(([, , row]) => row));
}

function tables() {
  for (const frame of document.querySelectorAll(".fleet-table")) {
    const table = frame.querySelector("table");
    [...table.tHead.rows[0].cells].forEach((head, number) => head.firstElementChild.addEventListener("click", () => sort(table, number, head)));
    const note = frame.querySelector("output");
    frame.querySelector("input").addEventListener("input", ({ target }) => {
      const text = target.value.toLowerCase();
      let shown = 0;
      for (const row of table.tBodies[0].rows) {
        row.hidden = text !== "" && !row.textContent.toLowerCase().includes(text);
        shown += !row.hidden;
      }
      note.textContent = text ? `${shown.toLocaleString("en")} rows` : "";
    });
  }
}

function theme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const show = (dark) => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(dark));
    paint();
  };
  button.addEventListener("click", () => show(document.documentElement.dataset.theme !== "dark"));
  system.addEventListener("change", () => show(system.matches));
  show(system.matches);
  return show;
}

// Paper shows copies of the pictures, in the light colours, and the glossary.
function print(show) {
  let dark = false;
  addEventListener("beforeprint", () => {
    dark = document.documentElement.dataset.theme === "dark";
    if (dark) show(false);
    document.getElementById("glossary-terms").open = true;
    for (const [key, id] of Object.entries(data.roots)) {
      const { canvas } = Bokeh.index.roots.find((view) => view.model.id === id).export("png");
      canvas.removeAttribute("style");
      canvas.className = "paper";
      document.getElementById(`plot-${key}`).after(canvas);
    }
  });
  addEventListener("afterprint", () => {
    if (dark) show(true);
    for (const copy of document.querySelectorAll("canvas.paper")) copy.remove();
  });
}

// A class in the legend leads to its meaning, which is folded away.
function explain() {
  for (const link of document.querySelectorAll(".swatches a")) {
    link.addEventListener("click", () => { document.getElementById("glossary-terms").open = true; });
  }
}

async function start() {
  data = await unpacked();
  const roots = Object.fromEntries(Object.entries(data.roots).map(([key, id]) => [id, `plot-${key}`]));
  await Bokeh.embed.embed_items({ report: data.document }, [{ docid: "report", roots, root_ids: Object.keys(roots) }]);
  doc = Bokeh.documents.at(-1);
  addMeanings();
  print(theme());
  tables();
  explain();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

start();
