// What is chosen, and what follows from it: one map for each of the two canvases.
const kinds = new Set(sets.map((set) => set.kind));
const references = run.facts.references;
const directions = ["r2g", "g2r", "words"].filter((kind) => kinds.has(kind));
const state = {
  image: 0, reference: references[0] ?? null, direction: directions[0], level: "unified", places: { time: 0, head: 0, layer: null },
  word: null, region: null, warp: run.fields.length > 0, colours: "inferno", opacity: 0.7, clear: 1, scale: "each", patches: false, fade: true, // clear: the opacity of what is warped
  hover: null, pin: null, // places {side, y, x} in fractions of the picture
  frames: { generated: 0, reference: 0 }, // which is shown, where a canvas is a video
};
const listeners = [];
let waiting = false;

/** Change something; everything is drawn again before the next frame. */
function choose(changes) {
  Object.assign(state, changes);
  settle();
  if (!waiting) requestAnimationFrame(() => { waiting = false; redraw(); });
  waiting = true;
}

function redraw() {
  const shown = painted();
  for (const listener of listeners) listener(shown);
}

let awaited = 0; // the image that was asked for last

/** A change of image waits for its bytes, so that nothing half new is seen. */
async function show_image(image) {
  awaited = image;
  const urls = ["generated", "reference"].flatMap((side) => pictures_of(side, image));
  await Promise.all([...[...sets, ...fields].map((set) => set.open(image)), ...urls.map(loaded)]);
  if (awaited === image) choose({ image });
}

/** The pictures of a canvas: of a video one for each frame, or one for all. */
function pictures_of(side, image) {
  const found = side === "generated" ? run.pictures.generated : run.pictures.references[state.reference] ?? [];
  return [found[found.length > 1 ? image : 0] ?? []].flat();
}

const SETS = { generated: ["r2g", "words"], reference: ["g2r", "cells", "regions"] }; // which kinds lie on a canvas

/** How many frames a canvas has; null of a picture. */
function frames_on(side) {
  return SETS[side].map((kind) => set_of(kind, state.reference)).find(Boolean)?.frames ?? null;
}

/** The frame of these maps that is shown. */
function frame_of(set) {
  return set.frames ? Math.min(set.frames - 1, state.frames[SETS.generated.includes(set.kind) ? "generated" : "reference"]) : 0;
}

/** Show another frame; beyond the last comes the first. */
function show_frame(side, frame) {
  const count = frames_on(side);
  if (count) choose({ frames: { ...state.frames, [side]: ((frame % count) + count) % count } });
}

/** Whether a region lies in the frame that is shown. */
function in_frame(place) {
  return place.frame === undefined || place.frame === state.frames.generated;
}

/** Choices that are there for this reference and image. */
function settle() {
  if (!set_of(state.direction, state.reference)) state.direction = directions.find((kind) => set_of(kind, state.reference)) ?? directions[0];
  if (!can_warp()) state.warp = false;
  const set = current();
  if (state.level !== "unified" && set.absent[state.level]) state.level = "unified";
  if (state.level === "layer" && !set.levels(state.image).some((one) => one.level === "layer" && one.name === state.places.layer))
    state.places = { ...state.places, layer: set.levels(state.image).find((one) => one.level === "layer")?.name ?? null };
  for (const side of ["generated", "reference"])
    if (state.frames[side] >= (frames_on(side) ?? 1)) state.frames = { ...state.frames, [side]: 0 };
  const words = set_of("words", null)?.names_of(state.image) ?? [];
  if (!words.includes(state.word)) state.word = words[0] ?? null;
}

/** The maps of the chosen direction. */
function current() {
  return set_of(state.direction, state.reference);
}

function level_of(set) {
  return set.find(state.image, state.level, state.places[state.level] ?? 0);
}

function item_of(set) {
  return set.kind === "words" ? set.names_of(state.image).indexOf(state.word) : 0;
}

/** The side that the chosen direction's maps lie on. */
function canvas_of(direction) {
  return direction === "g2r" ? "reference" : "generated";
}

/** What is asked about: a pinned patch before a chosen region, a region before what the cursor is over. */
function picked() {
  if (state.pin) return state.pin;
  if (state.region !== null) return { side: "generated", region: state.region };
  return state.hover;
}

/** The specific maps that a place on the generated image has: which set, which of its items, and its outline. */
function specific_at(place) {
  const cells = set_of("cells", state.reference), regions = set_of("regions", state.reference);
  if (cells && place.region === undefined) {
    const level = level_of(cells), merged = level.opened.part.merged, first = cells.first_cell(level.opened.part, state.frames.generated);
    if (first < 0) return null;
    const [row, column] = [[cells.cells.rows, place.y], [cells.cells.columns, place.x]].map(([e, x]) => Math.floor(edge(e, 0, x) / merged));
    const at = [cells.cells.rows, cells.cells.columns].map((e, i) => [e[[row, column][i] * merged], e[Math.min(e.length - 1, ([row, column][i] + 1) * merged)]]);
    const [rows, columns] = cells.cell_grid(level.opened.part);
    const when = cells.cells.frames ? ` of frame ${state.frames.generated}` : frames_on("generated") ? " of every frame" : "";
    const of = (merged > 1 ? ` of ${rows} × ${columns}` : "") + when;
    return { set: cells, level, item: first + row * columns + column, name: `cell ${row}, ${column}${of}`, box: [at[0][0], at[1][0], at[0][1], at[1][1]] };
  }
  const item = place.region ?? (regions ? region_at(regions.places, place) : null);
  if (!regions || item === null) return null;
  return { set: regions, level: level_of(regions), item, name: this_region(regions, item), place: regions.places[item] };
}

function this_region(regions, item) {
  const place = regions.places[item];
  return place.at.length ? `this ${place.kind}` : region_name(place, regions.names[0][item]);
}

/** The smallest box around a place, or else the nearest point close to it. */
function region_at(places, { y, x }) {
  let [best, size] = [null, Infinity];
  places.forEach(({ kind, at }, i) => {
    if (!in_frame(places[i])) return;
    const inside = kind === "box" && y >= at[0] && y < at[2] && x >= at[1] && x < at[3];
    const near = kind === "point" && Math.hypot(y - at[0], x - at[1]) < 0.05;
    const area = inside ? (at[2] - at[0]) * (at[3] - at[1]) : near ? 1e-3 * Math.hypot(y - at[0], x - at[1]) : Infinity;
    if (area < size) [best, size] = [i, area];
  });
  return best;
}

/** A map with its title and the range of its colours. */
function paint(set, level, item, title, map) {
  const shown = map ?? set.map(state.image, level, item), each = map?.course ?? [];
  const own = map ? [Math.min(map.low, ...each.map((one) => one.low)), Math.max(map.high, ...each.map((one) => one.high))] : set.span(level, item);
  const range = state.scale === "each" ? own : set.range(state.image, level, item);
  const asked = state.level === level.level;
  const at = level.level === "unified" ? (asked ? "unified" : `unified, as no single ${state.level} is kept`) : short(set, level);
  return { map: shown, range, kind: set.kind, title, level: at, item, of: map?.course ? state.frames.generated : map || !set.frames ? null : frame_of(set) };
}

/** What each canvas shows: the chosen direction's map, and on the other canvas what is asked about. */
function painted() {
  const found = { generated: null, reference: null, specific: null, warp: null, pointed: pointed() };
  const set = current(), base = level_of(set);
  const what = set.kind === "words" ? state.word : set.kind.toUpperCase();
  if (!state.warp) found[canvas_of(set.kind)] = paint(set, base, item_of(set), `${what}, ${ABOUT[set.kind]}`.replace("where a word", "where the word"));
  const place = picked(), cells = set_of("cells", state.reference);
  if (place?.side === "generated") {
    found.specific = specific_at(place);
    if (found.specific) {
      const { set: of, level, item, name } = found.specific;
      found.reference = paint(of, level, item, `where ${name} came from`);
    }
  } else if (place && cells) {
    const level = level_of(cells), [height, width] = level.grid;
    const [row, column] = [edge(null, height, place.y), edge(null, width, place.x)];
    const patch = row * width + column, map = cells.column(state.image, level, patch), merged = level.opened.part.merged;
    if (map) {
      map.rows = larger(cells.cells.rows, merged);
      map.columns = larger(cells.cells.columns, merged);
      if (cells.cells.frames) map.course = cells.cells.frames.map((frame) => cells.column(state.image, level, patch, frame)); // of each frame
      found.generated = paint(cells, level, null, `where patch ${row}, ${column} went`, map);
    }
  }
  if (state.warp && !found.generated) {
    const field = field_now(), at = field.level === "unified" ? (state.level === "unified" ? "unified" : `unified, as no single ${state.level} is kept`) : short(set, field);
    found.warp = { field: field.g2r, title: "moved into place", level: at };
  }
  return found;
}

/** Edges with every `merged`-th kept, and the last. */
function larger(edges, merged) {
  return edges.filter((_, i) => i % merged === 0 || i === edges.length - 1);
}
