// Explanations: what a class of time means, where the pointer or the focus is; and the way to the glossary of the page.

function meaningOf(label) { return data.meanings.find(([name]) => name === label); }

let hiding = 0;

function showTip(place) {
  clearTimeout(hiding);
  const [label, meaning, anchor] = meaningOf(place.dataset.class);
  const tip = document.getElementById("tip");
  const link = element("a", { href: `#${anchor}`, textContent: "glossary" });
  const parts = [element("strong", { textContent: label }), ...(place.dataset.more ? [` ${place.dataset.more}`] : []), element("br"), `${meaning} `, link];
  tip.replaceChildren(...parts);
  tip.hidden = false;
  const box = place.getBoundingClientRect();
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(box.left, room))}px`;
  const below = box.bottom + 4;
  tip.style.top = `${below + tip.offsetHeight < innerHeight ? below : box.top - tip.offsetHeight - 4}px`;
}

function hideTip() {
  clearTimeout(hiding);
  hiding = setTimeout(() => { document.getElementById("tip").hidden = true; }, 250);
}

function showTerm(anchor) {
  const term = document.getElementById(anchor);
  document.getElementById("glossary-terms").open = true;
  for (const each of document.querySelectorAll("dt.shown")) each.classList.remove("shown");
  term.classList.add("shown");
  term.scrollIntoView({ block: "center" });
  term.tabIndex = -1;
  term.focus({ preventScroll: true });
  document.getElementById("tip").hidden = true;
}

function explain() {
  const tip = document.getElementById("tip");
  for (const place of document.querySelectorAll("[data-class]")) {
    for (const name of ["pointerenter", "focus"]) place.addEventListener(name, () => showTip(place));
    for (const name of ["pointerleave", "blur"]) place.addEventListener(name, hideTip);
  }
  tip.addEventListener("pointerenter", () => clearTimeout(hiding));
  tip.addEventListener("pointerleave", hideTip);
  // A link to a term must not change what is chosen, which stands in the address.
  document.addEventListener("click", (event) => {
    const anchor = event.target.closest("a[href^='#']")?.getAttribute("href").slice(1);
    if (!anchor || document.getElementById(anchor)?.tagName !== "DT") return;
    event.preventDefault();
    showTerm(anchor);
  });
}

// The library's own tooltips read a column; the meanings are the same few texts for all marks.
function addMeanings(source) {
  const paint = column(source, "paint");
  if (!paint.length || column(source, "meaning").length) return;
  const texts = data.meanings.map(([, meaning]) => meaning);
  const meanings = Array.from(paint, (each) => texts[each] ?? "");
  if (source.data.set) source.data.set("meaning", meanings); else source.data.meaning = meanings;
}
