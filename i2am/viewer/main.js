// The page is put together once; after that every change goes through `choose`.
const figures = { generated: new Figure("generated"), reference: new Figure("reference") };

/** Small pictures of the batch, each under its own unified map, or plain where there is a field. */
async function build_strip() {
  const strip = document.getElementById("batch");
  strip.hidden = run.facts.images < 2;
  if (strip.hidden) return;
  const labels = [];
  for (let image = 0; image < run.facts.images; image++) {
    const input = h("input", { type: "radio", name: "image", value: image, "aria-label": `Image ${image}`, onchange: () => show_image(image) });
    const canvas = h("canvas", { height: 144, width: 108 });
    labels.push(h("label", { title: `Image ${image}` }, input, canvas));
  }
  strip.append(...labels);
  listeners.push(() => labels.forEach((label, image) => (label.querySelector("input").checked = image === awaited)));
  for (let image = 0; image < run.facts.images; image++) await thumbnail(labels[image].querySelector("canvas"), image);
}

async function thumbnail(canvas, image) {
  const set = set_of("r2g", state.reference) ?? sets.find((one) => one.kind === "words");
  const [url] = pictures_of("generated", image);
  const picture = url ? await loaded(url) : null;
  if (set) await set.open(image);
  const level = set?.levels(image)[0];
  canvas.width = Math.round(144 * (picture ? picture.naturalWidth / picture.naturalHeight : level ? level.grid[1] / level.grid[0] : 1));
  const context = canvas.getContext("2d");
  ground(context, picture, dark());
  if (!level || (picture && can_warp())) return; // the page opens on the warp: a unified map of all heads would say something else
  const map = set.map(image, level, 0, 0);
  lay(context, { map, range: [map.low, map.high] }, { colours: "inferno", opacity: 0.5, patches: false, fade: false });
}

function build_theme() {
  const button = document.getElementById("theme");
  const refresh = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`);
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    refresh();
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { refresh(); redraw(); });
  refresh();
}

function build_texts() {
  document.getElementById("facts").append(...facts().map((fact) => h("span", {}, fact)));
  document.getElementById("hint").append(...hint(kinds).map(([text, strong]) => (strong ? h("b", {}, text) : text)));
  const alone = !references.length;
  figures.reference.root.hidden = alone;
  document.querySelector(".pair").classList.toggle("alone", alone);
  const notes = [...run.notes, ...run.lacks.filter((lack) => lack.kind === "specific" || lack.kind === "words").map((lack) => `No ${lack.kind} maps. ${sentence(lack.why)}`)];
  const prompts = [...new Set(run.facts.prompts)].filter(Boolean);
  if (prompts.length) notes.unshift(`Prompt: ${prompts.map((text) => `\u201c${text}\u201d`).join(", ")}.`);
  notes.push("Values are sums of attention over the steps, means over heads and layers. Rows, columns, heads and images count from 0. "
    + "A map says where attention weights went, not what would change without them.");
  document.getElementById("notes").append(...notes.map((note) => h("p", {}, note)));
}

async function begin() {
  await Promise.all([...sets, ...fields].map((set) => set.open(0)));
  settle();
  build_theme();
  build_texts();
  build_controls();
  let shown = null;
  listeners.push(async (now) => {
    const which = [state.image, state.reference, state.frames.generated, state.frames.reference].join("/");
    if (which !== shown) {
      shown = which;
      await Promise.all(Object.values(figures).map((figure) => figure.load()));
      now = painted();
    }
    for (const figure of Object.values(figures)) figure.draw(now);
  });
  Object.values(figures).forEach(listen);
  build_reels();
  const strip = build_strip();
  redraw();
  await Promise.all([strip, ...Object.values(figures).map((figure) => figure.load())]);
  redraw();
}

/** For tests and the curious: what the page shows now, to read and not to change. */
const ready = begin().catch((error) => {
  document.getElementById("hint").textContent = `The maps could not be opened (${error.message}). `
    + "This page needs a browser of 2024 or later: Chromium 123, Firefox 121, Safari 17.5.";
  throw error;
});
window.i2am = Object.freeze({
  ready,
  get state() { return structuredClone(state); },
  get kinds() { return [...kinds]; },
  painted(side) {
    const shown = painted()[side];
    if (!shown) return null;
    const { map, range, title, level, kind } = shown;
    return { height: map.h, width: map.w, values: [...map.values], range, title, level, kind };
  },
  async held(kind, reference, image, level, place, item, frame = 0) {
    const set = set_of(kind, reference);
    await set.open(image);
    const found = set.find(image, level, place);
    const { h: height, w: width, values } = set.map(image, found, item, frame);
    return { height, width, values: [...values], level: found.level, name: found.name };
  },
  get pointed() { return structuredClone(pointed()); },
  colours: (name) => [...table(name)],
});
