// Numbers and sentences. Everything from the run is set as text, never as HTML.
const ABOUT = {
  r2g: "where the reference acts",
  g2r: "what of the reference is used",
  words: "where a word acts",
  warp: "the reference moved into place",
};
const LEVELS = { unified: "Unified", time: "Time", head: "Head", layer: "Layer" };
const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** Three digits, with a power of ten where the number is very small or large. */
function number(x) {
  if (!isFinite(x) || x === 0) return "0";
  const power = Math.floor(Math.log10(Math.abs(x)));
  if (power >= -3 && power < 5) return String(Number(x.toPrecision(3)));
  const raised = String(Math.abs(power)).replace(/\d/g, (digit) => SUPERSCRIPT[digit]);
  return `${(x / 10 ** power).toFixed(2)} × 10${power < 0 ? "⁻" : ""}${raised}`;
}

function percent(part) {
  if (!isFinite(part)) return "0 %";
  return `${part < 0.0001 && part > 0 ? "< 0.01" : Number((100 * part).toPrecision(part < 0.01 ? 2 : 3))} %`;
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1);

function counted(n, one, many = one + "s") {
  return `${n} ${n === 1 ? one : many}`;
}

/** An element with its attributes and what it holds. */
function h(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...inside.filter((one) => one != null));
  return element;
}

function facts() {
  const { model, images, steps, groups, layers, heads, references, versions, frames } = run.facts;
  const found = [model !== run.title ? model : null, images > 1 ? counted(images, frames ? "video" : "image") : null];
  found.push(frames ? counted(frames, "frame") : null, counted(steps, "step"));
  found.push(counted(groups, "time group"), counted(layers, "layer"));
  if (heads.length) found.push(heads.length > 1 ? `${heads[0]} to ${heads.at(-1)} heads` : counted(heads[0], "head"));
  if (references.length > 1) found.push(counted(references.length, "reference"));
  found.push(...Object.entries(versions).map(([name, version]) => `${name} ${version}`));
  return found.filter(Boolean);
}

/** What a newcomer should try first: pairs of [text, is it the point]. */
function hint(kinds) {
  const touch = matchMedia("(hover: none)").matches;
  const over = touch ? "Tap" : "Move over", made = run.facts.frames ? "video" : "image";
  const moves = made === "video" && !touch ? " Keys , and . step through the frames." : "";
  const pins = (touch ? " Tap it again to let go." : " Click keeps a patch, arrow keys move it, Esc lets go.") + moves;
  if (kinds.has("cells"))
    return [[`${over} the generated ${made}`, true], [" to see where each patch came from, or ", false],
            [`${touch ? "tap" : "over"} the reference`, true], [" to see where it went." + pins, false]];
  if (fields.length && !kinds.has("regions"))
    return [[`${over} the generated ${made}`, true], [" to see the point that each patch comes from, and how widely it looks, or ", false],
            [`${touch ? "tap" : "over"} the reference`, true], [" to see where it goes." + pins, false]];
  if (kinds.has("regions"))
    return [[`${over} a marked region`, true], [` of the generated ${made}, or choose one, to see where it came from.` + pins, false]];
  const why = kinds.has("r2g") && kinds.has("g2r")
    ? " This run kept no maps of single patches; trace(..., specific=i2am.cells(16, 12)) does." : "";
  return [[`${over} the ${made}`, true], [" for the numbers under the cursor." + why + pins, false]];
}

/** Where the cursor is and what is there. Rows and columns count from 0, as in the tensors. */
function reading(map, place) {
  const row = Math.min(map.h - 1, edge(map.rows, map.h, place.y)), column = Math.min(map.w - 1, edge(map.columns, map.w, place.x));
  const value = map.values[row * map.w + column];
  return { row, column, value, share: value / map.total };
}

/** The interval of [0, 1] that x lies in: n equal ones, or those between the edges. */
function edge(edges, n, x) {
  if (!edges) return Math.max(0, Math.min(n - 1, Math.floor(x * n)));
  let at = 0;
  while (at < edges.length - 2 && x >= edges[at + 1]) at++;
  return at;
}

/** A region's place in words. */
function region_name(place, name) {
  const [y, x, bottom, right] = place.at.map((part) => `${Math.round(100 * part)}`), when = place.frame === undefined ? "" : `, frame ${place.frame}`;
  if (place.kind === "point") return `point ${y} % down, ${x} % across${when}`;
  if (place.kind === "box")
    return `box ${y}–${bottom} % down, ${x}–${right} % across${when}`;
  return place.kind === "mask" ? `region ${place.region}, a mask` : name;
}

const shorter = new Map();

/** A level's name without what the names of all layers have in common. */
function short(set, level) {
  if (level.level !== "layer") return level.name.split(" of ")[0];
  if (!shorter.has(set)) {
    const names = set.levels(state.image).filter((one) => one.level === "layer").map((one) => one.name);
    let parts = names.map((name) => name.split("."));
    const common = parts[0].filter((word) => !/^\d+$/.test(word) && parts.every((name) => name.length > 2 && name.includes(word)));
    parts = parts.map((name) => name.filter((word) => !common.includes(word)));
    while (parts.every((name) => name.length > 1 && name.at(-1) === parts[0].at(-1))) parts.forEach((name) => name.pop());
    if (!parts.every((name) => name.some((word) => /[a-z]/i.test(word)))) parts.forEach((name) => name.unshift(...common.slice(0, 1)));
    const cut = parts.map((name) => name.join("."));
    shorter.set(set, new Map(names.map((name, i) => [name, new Set(cut).size === names.length && cut[i] ? cut[i] : name])));
  }
  return shorter.get(set).get(level.name) ?? level.name;
}
