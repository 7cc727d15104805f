// The run as the page carries it: text -> gzip -> bytes -> maps. The bytes are described in codes.py.
const run = JSON.parse(document.getElementById("run").textContent);
const LAST = 65535, OCTAVE = 2048;

async function unpacked(blob) {
  const text = atob(document.getElementById("blob" + blob).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** One image's maps of one part: where each level begins, and how to read a map of it. */
class Opened {
  constructor(bytes, part, image, count) {
    Object.assign(this, { bytes, part, top: part.tops[image], squares: new Float32Array(256) });
    for (let i = 0; i < 256; i++) this.squares[i] = (i / part.steps) ** 2;
    let first = 0, place = 0;
    this.levels = part.levels.map((level) => {
      const start = { ...level, first, place: level.place, at: place, count, opened: this };
      first += count;
      place += count * level.grid[0] * level.grid[1];
      return start;
    });
    this.codes = new Uint16Array(bytes.buffer, bytes.byteOffset, 2 * first);
    this.total = first;
    this.values = bytes.subarray(4 * first);
  }
  ends(level, item) {
    const code = this.codes[level.first + item];
    const high = code ? this.top * 2 ** ((code - LAST) / OCTAVE) : 0;
    return [(high * this.codes[this.total + level.first + item]) / LAST, high];
  }
  value(level, item, patch) {
    const [low, high] = this.ends(level, item);
    return low + (high - low) * this.squares[this.values[level.at + item * level.grid[0] * level.grid[1] + patch]];
  }
  map(level, item) {
    const [h, w] = level.grid;
    const [low, high] = this.ends(level, item);
    const values = new Float32Array(h * w);
    const start = level.at + item * h * w;
    for (let i = 0; i < h * w; i++) values[i] = low + (high - low) * this.squares[this.values[start + i]];
    return made(h, w, values);
  }
}

/** A map with the numbers that are said of it. */
function made(h, w, values) {
  let low = Infinity, high = -Infinity, total = 0, peak = 0;
  values.forEach((value, i) => {
    total += value;
    low = Math.min(low, value);
    if (value > high) [high, peak] = [value, i];
  });
  return { h, w, values, low, high, total, peak: [Math.floor(peak / w), peak % w] };
}

/** The maps of one kind and reference, for every image. */
class Maps {
  constructor(set) {
    Object.assign(this, set);
    this.per = this.frames ?? 1; // maps of each item
    this.images = new Map();
    this.known = new Map();
  }
  names_of(image) {
    return this.names[this.names.length > 1 ? image : 0];
  }
  /** [rows, columns] of the cells that this part has maps of. */
  cell_grid(part) {
    return [this.cells.rows.length - 1, this.cells.columns.length - 1].map((n) => Math.ceil(n / part.merged));
  }
  async open(image) {
    if (this.images.has(image)) return;
    const opened = await Promise.all(this.parts.map(async (part) => {
      const cells = (grid) => grid[0] * grid[1] * (this.cells.frames?.length ?? 1);
      const count = this.cells ? cells(this.cell_grid(part)) : this.names_of(image).length;
      return new Opened(await unpacked(part.blobs[image]), part, image, count * this.per);
    }));
    this.images.set(image, opened.flatMap((one) => one.levels));
  }
  levels(image) {
    return this.images.get(image) ?? [];
  }
  /** The level that was asked for, or the unified one where it is not held. Layers go by name: not every map has all of them. */
  find(image, level, place) {
    const levels = this.levels(image);
    return levels.find((one) => one.level === level && (level === "layer" ? one.name : one.place) === place) ?? levels[0];
  }
  /** An item's map; of a video that of the frame that is shown. */
  map(image, level, item, frame = frame_of(this)) {
    const at = item * this.per + frame, key = [image, level.level, level.place, at].join();
    if (!this.known.has(key)) {
      if (this.known.size > 600) this.known.clear();
      this.known.set(key, level.opened.map(level, at));
    }
    return this.known.get(key);
  }
  /** The first cell of a frame of the generated video; -1 where it has none. */
  first_cell(part, frame) {
    const [rows, columns] = this.cell_grid(part);
    return this.cells.frames ? Math.max(-1, this.cells.frames.indexOf(frame) * rows * columns) : 0;
  }
  /** Where a patch of the reference went: its value in the map of every cell of a frame. */
  column(image, level, patch, frame = state.frames.generated) {
    const [rows, columns] = this.cell_grid(level.opened.part), first = this.first_cell(level.opened.part, frame);
    if (first < 0) return null;
    return made(rows, columns, Float32Array.from({ length: rows * columns }, (_, cell) => level.opened.value(level, (first + cell) * this.per + frame_of(this), patch)));
  }
  /** The least and the greatest value of an item: of a video over its frames, so that colours mean the same in each. */
  span(level, item) {
    let [low, high] = [Infinity, -Infinity];
    for (let at = item * this.per; at < (item + 1) * this.per; at++) {
      const ends = level.opened.ends(level, at);
      [low, high] = [Math.min(low, ends[0]), Math.max(high, ends[1])];
    }
    return [low, high];
  }
  /** The least and the greatest value of a level: of its groups, heads or layers, or of all cells. */
  range(image, level, item) {
    const whole = this.kind === "cells" || this.kind === "regions";
    let [low, high] = [Infinity, -Infinity];
    for (const one of whole ? [level] : this.levels(image).filter((one) => one.level === level.level))
      for (const at of whole ? Array(one.count / this.per).keys() : [item]) {
        const ends = this.span(one, at);
        [low, high] = [Math.min(low, ends[0]), Math.max(high, ends[1])];
      }
    return [low, high];
  }
}

const sets = run.sets.map((set) => new Maps(set));

function set_of(kind, reference) {
  return sets.find((set) => set.kind === kind && (set.reference === reference || set.reference === null));
}

function lack_of(kind, reference) {
  return run.lacks.find((lack) => lack.kind === kind && (lack.reference === reference || lack.reference === null));
}
