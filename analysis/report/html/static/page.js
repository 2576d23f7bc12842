// Unpacks the data, hands the pictures to the library, and ties everything together.

let data, doc;
const tables = [];

function makeTable(details) {
  if (!details.open || details.dataset.made) return;
  details.dataset.made = "yes";
  const spec = data.tables.find((each) => each.key === details.dataset.table);
  tables.push(new DataTable(spec, details, chooseRow));
  applyToTables();
}

// A click on marks of several sources, one above the other, changes what is selected in each: it is one choice, made when all have changed.
let changed = [];

function clicked(source) {
  changed.push(source);
  if (changed.length > 1) return;
  queueMicrotask(() => {
    const hit = changed.find((each) => each.selected.indices.length);
    changed = [];
    if (hit) chooseMark(hit, hit.selected.indices[0]); else choose({});
  });
}

function follow() {
  for (const [key] of figures()) {
    const plot = doc.get_model_by_id(data.roots[key]);
    for (const { data_source: source } of plot.renderers) {
      if (!source?.name || !source.selected) continue;
      source.selected.properties.indices.change.connect(() => { if (!applying) clicked(source); });
    }
    const place = document.getElementById(`plot-${key}`);
    place.addEventListener("keydown", (event) => pictureKey(event, key));
  }
  for (const [key, plot] of figures()) {
    if (!model(`${key}-labels`)) continue;
    const { x_range: range } = plot;
    for (const name of ["start", "end"]) range.properties[name].change.connect(labelAll);
  }
  followTime();
  followActivity();
  alignTime();
  watch();
  addEventListener("resize", labelAll);
  addEventListener("hashchange", () => choose(readAddress(), { write: false }));
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    document.getElementById("tip").hidden = true;
    if (searched) { document.getElementById("find").value = ""; search(""); }
    choose({});
    if (data.roots.flame) doc.get_model_by_id(data.roots.flame).x_range.setv({ start: 0, end: 1 });
  });
}

// On paper stands a copy of each picture as it is on the screen, as wide as the paper.
function copyForPaper() {
  for (const [key, plot] of figures()) {
    const { canvas } = Bokeh.index.roots.find((view) => view.model === plot).export("png");
    canvas.removeAttribute("style");
    canvas.className = "paper";
    document.getElementById(`plot-${key}`).after(canvas);
  }
}

function controls() {
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const show = (dark) => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    theme.textContent = dark ? "Light" : "Dark";
    theme.setAttribute("aria-pressed", String(dark));
    paint();
  };
  theme.addEventListener("click", () => show(document.documentElement.dataset.theme !== "dark"));
  system.addEventListener("change", () => show(system.matches));
  show(system.matches);
  document.getElementById("flame-mode")?.addEventListener("change", showFlame);
  document.getElementById("heat-file")?.addEventListener("change", (event) => { showHeat(Number(event.target.value)); applyToPictures(); });
  const box = document.getElementById("find");
  let typing = 0;
  box.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => search(box.value), 120); });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    clearTimeout(typing);
    if (box.value.trim().toLowerCase() !== searched) search(box.value);
    nextMatch(!event.shiftKey);
  });
  for (const button of document.querySelectorAll("button.class")) {
    const number = [...document.querySelectorAll("button.class")].indexOf(button);
    button.addEventListener("click", () => {
      if (off.has(number)) off.delete(number); else off.add(number);
      button.setAttribute("aria-pressed", String(!off.has(number)));
      applyToPictures();
    });
  }
  let dark = false;
  addEventListener("beforeprint", () => {
    dark = document.documentElement.dataset.theme === "dark";
    if (dark) show(false);
    for (const details of document.querySelectorAll("details.table")) { details.open = true; makeTable(details); }
    for (const table of tables) table.draw(25);
    for (const details of document.querySelectorAll("details.prose")) details.open = true;
    catchUp(Object.keys(due));
    copyForPaper();
  });
  addEventListener("afterprint", () => {
    if (dark) show(true);
    for (const table of tables) table.draw();
    for (const copy of document.querySelectorAll("canvas.paper")) copy.remove();
  });
}

// A value beside a bar or a point must not be cut: the range grows until the value fits. In a narrow picture, of a value with details only the value stays.
function makeRoomForValues() {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  for (const [key, plot] of figures()) {
    const source = model(`${key}-values`);
    const { x_range: range } = plot;
    if (!source || range.start !== 0) continue;
    const inner = plot.inner_width || document.getElementById(`plot-${key}`).clientWidth - 120;
    const width = (text) => pen.measureText(text).width + 16;
    const x = column(source, "x");
    let text = Array.from(column(source, "text"));
    if (Math.max(...text.map(width)) > inner / 2) {
      text = text.map((each) => each.split("  ")[0]);
      source.data = { x: Array.from(x), y: Array.from(column(source, "y")), text };
    }
    const ends = Array.from(x, (each, row) => each * inner / Math.max(inner - width(text[row]), 0.3 * inner));
    range.end = Math.max(range.end, ...ends);
  }
}

async function start() {
  const root = document.documentElement;
  root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  data = await unpacked();
  const roots = Object.fromEntries(Object.entries(data.roots).map(([key, id]) => [id, `plot-${key}`]));
  await Bokeh.embed.embed_items({ report: data.document }, [{ docid: "report", roots, root_ids: Object.keys(roots) }]);
  doc = Bokeh.documents.at(-1);
  for (const details of document.querySelectorAll("details.table")) {
    details.addEventListener("toggle", () => makeTable(details));
    makeTable(details);
  }
  for (const [, plot] of figures()) for (const { data_source: source } of plot.renderers) if (source?.name) addMeanings(source);
  if (data.tree?.name) new FolderTree(data.tree, document.getElementById("tree"));
  if (phone.matches) narrowAxes();
  makeRoomForValues();
  controls();
  explain();
  follow();
  labelAll();
  const linked = readAddress();
  if (Object.keys(linked).length) choose(linked, { write: false });
  root.dataset.ready = String(Math.round(performance.now()));
}

start();
