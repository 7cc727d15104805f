// The two canvases: picture, map, marks, colour bar and the line of numbers.
class Figure {
  constructor(side) {
    this.side = side;
    this.root = document.querySelector(`figure[data-side="${side}"]`);
    const find = (what) => this.root.querySelector(what);
    Object.assign(this, { box: find(".canvas"), canvas: find("canvas"), marks: find(".marks"), readout: find(".readout"),
      title: find(".what"), bar: find(".bar"), low: find(".low"), high: find(".high"), ramp: find(".ramp"), frame: find(".frame"), picture: null });
    this.context = this.canvas.getContext("2d");
    const name = side === "generated" ? (run.facts.frames ? "Generated video" : "Generated image") : "Reference";
    find("h2").textContent = name;
    this.box.setAttribute("aria-label", `${name}. Arrow keys move over its patches, Enter keeps one, Escape lets go.`);
    new ResizeObserver(() => this.fit()).observe(this.box);
  }

  /** As many pixels as the screen has. */
  fit() {
    const scale = Math.min(2, window.devicePixelRatio || 1), { width, height } = this.box.getBoundingClientRect();
    const size = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
    if (this.canvas.width === size[0] && this.canvas.height === size[1]) return;
    [this.canvas.width, this.canvas.height] = size;
    if (this.shown) this.draw(this.shown);
  }

  /** The picture of this image and reference; without one, the shape of the maps. */
  async load() {
    const found = pictures_of(this.side, state.image), url = found[found.length > 1 ? state.frames[this.side] : 0];
    if (url !== this.url || !this.ratio) {
      this.picture = url ? await loaded(url) : null;
      this.url = url;
    }
    const [h, w] = this.grid() ?? [1, 1];
    this.ratio = this.picture ? this.picture.naturalWidth / this.picture.naturalHeight : w / h;
    this.root.style.setProperty("--ratio", this.ratio);
    this.root.classList.toggle("upright", this.ratio < 0.85); // on a phone the text then stands beside it
    this.why();
  }

  /** The patches that maps of this canvas have: what arrow keys step over, and the shape where there is no picture. */
  grid() {
    const cells = set_of("cells", state.reference);
    const order = this.side === "generated" ? ["r2g", "words"] : ["g2r", "cells", "regions"];
    if (this.side === "generated" && cells && this.ratio) return [cells.cells.rows.length - 1, cells.cells.columns.length - 1];
    const set = order.map((kind) => set_of(kind, state.reference)).find(Boolean);
    return set?.levels(state.image)[0]?.grid;
  }

  /** Why this canvas has no maps, in place of a canvas or under the picture. */
  why() {
    this.alive = this.side === "generated" ? true : Boolean(this.grid());
    const lack = this.side === "reference" && !this.alive ? lack_of("g2r", state.reference) : null;
    this.lack = lack ? sentence(lack.why) : null;
    this.box.classList.toggle("still", !this.alive);
    this.box.tabIndex = this.alive ? 0 : -1;
    this.frame.querySelector(".why")?.remove();
    const empty = Boolean(this.lack && !this.picture);
    this.box.hidden = empty;
    if (empty) this.frame.append(h("p", { class: "why" }, this.lack));
  }

  draw(shown) {
    this.shown = shown;
    const { context, side } = this, paint = shown[side], { width, height } = this.canvas;
    const warp = side === "generated" ? shown.warp : null, other = warp && figures.reference.picture;
    const asked = [paint?.map, ...(paint?.range ?? []), state.colours, state.opacity, state.patches, state.fade, this.picture, dark(), width, height, warp?.field, other, state.clear];
    if (asked.length !== this.drawn?.length || asked.some((one, i) => one !== this.drawn[i])) {
      this.drawn = asked; // only what changed is painted again
      context.clearRect(0, 0, width, height);
      ground(context, this.picture, dark());
      if (paint) lay(context, paint, state);
      else if (other) lay_warped(context, warp.field, other, state.clear);
    }
    const said = paint ?? warp;
    this.title.textContent = said ? `${said.title} · ${said.level}` : "";
    this.title.title = this.title.textContent;
    this.bar.classList.toggle("off", !paint);
    if (paint) {
      this.low.textContent = number(paint.range[0]);
      this.high.textContent = number(paint.range[1]);
      this.ramp.style.background = ramp(state.colours);
      this.ramp.setAttribute("aria-label", `Colours from ${number(paint.range[0])} to ${number(paint.range[1])}`);
    }
    this.mark(shown, paint);
    this.say(shown, paint);
  }

  /** Outlines: what is asked about, regions that can be, and the peak of what came of it. */
  mark(shown, paint) {
    const place = picked(), found = [], regions = set_of("regions", state.reference);
    if (this.side === "generated" && regions)
      regions.places.forEach((one, i) => in_frame(one) && found.push(outline(one.kind === "point" ? "point faint" : "faint", one.at, String(i))));
    for (const one of [place, state.hover].filter((one, i, all) => one && one.side === this.side && all.indexOf(one) === i)) {
      const kept = one !== state.hover || one === state.pin ? "pinned" : "";
      const specific = this.side === "generated" ? specific_at(one) : null;
      if (specific?.place) found.push(outline(specific.place.kind === "point" ? `point ${kept}` : kept, specific.place.at));
      else found.push(outline(kept, specific?.box ?? this.patch(one, paint)));
    }
    if (paint && place && place.side !== this.side && (this.side === "generated" || shown.specific)) {
      const { h, w, peak: [row, column], rows, columns } = paint.map, middle = (edges, n, i) => (edges ? (edges[i] + edges[i + 1]) / 2 : (i + 0.5) / n);
      found.push(outline("peak point", [middle(rows, h, row), middle(columns, w, column)]));
    }
    const to = shown.pointed;
    if (to?.side === this.side) found.push(ellipse(to, this.ratio), outline("aim", [to.y, to.x]));
    this.marks.replaceChildren(...found.filter(Boolean));
  }

  /** The box of the patch at a place. */
  patch({ y, x }, paint) {
    const [height, width] = paint ? [paint.map.h, paint.map.w] : this.grid() ?? [1, 1];
    const [rows, columns] = [paint?.map.rows ?? null, paint?.map.columns ?? null];
    const [row, column] = [edge(rows, height, y), edge(columns, width, x)], side = (edges, n, i) => (edges ? edges[i] : i / n);
    return [side(rows, height, row), side(columns, width, column), side(rows, height, row + 1), side(columns, width, column + 1)];
  }

  /** The numbers under the cursor; where it is not here, the peak of what is painted. */
  say(shown, paint) {
    const here = state.hover?.side === this.side ? state.hover : picked()?.side === this.side && picked().y !== undefined ? picked() : null;
    const bold = (before, value) => h("span", {}, before, h("b", {}, number(value))), plain = (text) => h("span", {}, text);
    let nodes = [];
    if (this.lack) nodes = this.picture ? [plain(this.lack)] : [];
    else if (!this.alive) nodes = [plain("No map lies on this reference.")];
    else if (paint && here) {
      const { row, column, value, share } = reading(paint.map, here), whole = paint.of === null ? "the total" : "this frame";
      nodes = [bold("", value), plain(`${percent(share)} of ${whole}`), plain(`row ${row}, column ${column} of ${paint.map.h} × ${paint.map.w}`)];
    } else if (paint) {
      const { high, total, peak: [row, column], h: height, w: width } = paint.map;
      const where = paint.of === null ? "" : " in this frame";
      nodes = [bold("peak ", high), plain(`at row ${row}, column ${column} of ${height} × ${width}`), plain(`total ${number(total)}${where}`)];
    } else if (here && this.grid()) {
      const [height, width] = this.grid();
      nodes = [plain(`row ${edge(null, height, here.y)}, column ${edge(null, width, here.x)} of ${height} × ${width}`)];
    }
    const to = shown.pointed, whole = (part) => `${Math.round(100 * part)} %`;
    if (to?.side === this.side) {
      const way = this.side === "reference" ? "comes from" : "goes to";
      nodes.push(h("span", { class: "points" }, `${way} `, h("b", {}, `${whole(to.y)} down, ${whole(to.x)} across`), `, spread ${whole(to.spread)}`));
    }
    this.readout.replaceChildren(...nodes);
  }
}

/** A mark at a point or around a box, in fractions of the canvas. */
function outline(kind, at, name) {
  if (!at || !at.length) return null;
  const mark = h("i", { class: kind, "data-region": name });
  const part = (x) => `${(100 * x).toFixed(3)}%`;
  mark.style.top = part(at[0]);
  mark.style.left = part(at[1]);
  if (at.length === 4) {
    mark.style.height = part(at[2] - at[0]);
    mark.style.width = part(at[3] - at[1]);
  }
  return mark;
}

const seen = new Map();

/** A picture, decoded once. */
async function loaded(url) {
  if (!seen.has(url)) {
    const picture = new Image();
    picture.src = url;
    seen.set(url, picture.decode().then(() => picture));
  }
  return seen.get(url);
}

function dark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
