// Correspondence fields: where a patch of one picture points on the other, how widely, and the reference as they move it.
// The bytes are described in fields.py; a patch is seen as in i2am.show.fields: (1 - 6 (spread^2 + home^2))^3, home being how far from itself
// the way there and back ends.
const NOWHERE = 65535, LAST_PLACE = 65534, PLANES = 7;

/** One direction of one level: positions and covariance of every patch, in fractions of the other picture. */
class Field {
  constructor(bytes, start, [h, w]) {
    const n = h * w, plane = (k) => bytes.subarray(start + k * n, start + (k + 1) * n), planes = Array.from({ length: PLANES }, (_, k) => plane(k));
    const place = (high, low) => Float32Array.from({ length: n }, (_, i) => (high[i] * 256 + low[i] === NOWHERE ? NaN : (high[i] * 256 + low[i]) / LAST_PLACE));
    const deviation = (codes) => Float32Array.from(codes, (code) => (code / 255) ** 2 / 2);
    Object.assign(this, { h, w, y: place(planes[0], planes[1]), x: place(planes[2], planes[3]), sy: deviation(planes[4]), sx: deviation(planes[5]) });
    this.correlation = Float32Array.from(planes[6], (code) => code / 127 - 1);
    this.seen = Float32Array.from(this.y, (y, i) => (isNaN(y) ? 0 : Math.max(0, 1 - 6 * (this.sy[i] ** 2 + this.sx[i] ** 2)) ** 3));
  }
  /** Patches whose way back ends elsewhere are seen less. */
  follow(back) {
    for (let i = 0; i < this.y.length; i++) {
      const end = back.between(this.y[i], this.x[i]), row = Math.floor(i / this.w), column = i % this.w;
      const home = end ? Math.hypot(end[0] - (row + 0.5) / this.h, end[1] - (column + 0.5) / this.w) : 1;
      this.seen[i] = isNaN(this.y[i]) ? 0 : Math.max(0, 1 - 6 * (this.sy[i] ** 2 + this.sx[i] ** 2 + home ** 2)) ** 3;
    }
  }
  /** Where a place between patches points, linearly; nothing beside patches that point nowhere. */
  between(y, x) {
    const inner = (at, size) => Math.min(size - 1, Math.max(0, at * size - 0.5));
    const [row, column] = [inner(y, this.h), inner(x, this.w)], [top, left] = [Math.floor(row), Math.floor(column)];
    const sum = [0, 0];
    for (const [r, a] of [[top, 1 - row + top], [Math.min(top + 1, this.h - 1), row - top]])
      for (const [c, b] of [[left, 1 - column + left], [Math.min(left + 1, this.w - 1), column - left]]) {
        const i = r * this.w + c;
        if (a * b > 0) [sum[0], sum[1]] = [sum[0] + a * b * this.y[i], sum[1] + a * b * this.x[i]];
      }
    return isNaN(sum[0]) ? null : sum;
  }
  /** What the patch at a place says; nothing where it points nowhere. */
  at({ y, x }) {
    const row = edge(null, this.h, y), column = edge(null, this.w, x), i = row * this.w + column;
    if (isNaN(this.y[i])) return null;
    const [sy, sx] = [this.sy[i], this.sx[i]];
    return { row, column, y: this.y[i], x: this.x[i], sy, sx, yx: this.correlation[i] * sy * sx, spread: Math.hypot(sy, sx), seen: this.seen[i] };
  }
}

/** The fields of one reference, for every image. */
class Fields {
  constructor({ reference, parts }) {
    Object.assign(this, { reference, parts, images: new Map() });
  }
  async open(image) {
    if (this.images.has(image)) return;
    const opened = await Promise.all(this.parts.map(async ({ levels, blobs }) => {
      const bytes = await unpacked(blobs[image]);
      let start = 0;
      return levels.map(({ level, place, name, grids }) => {
        const one = { level, place, name };
        for (const direction of ["g2r", "r2g"]) {
          one[direction] = new Field(bytes, start, grids[direction]);
          start += PLANES * grids[direction][0] * grids[direction][1];
        }
        one.g2r.follow(one.r2g);
        one.r2g.follow(one.g2r);
        return one;
      });
    }));
    this.images.set(image, opened.flat());
  }
  /** The level that is chosen, or the unified one. */
  find(image) {
    const levels = this.images.get(image) ?? [], place = state.places[state.level] ?? 0;
    return levels.find((one) => one.level === state.level && (one.level === "layer" ? one.name : one.place) === place) ?? levels[0];
  }
}

const fields = run.fields.map((one) => new Fields(one));

function fields_of(reference) {
  return fields.find((one) => one.reference === reference);
}

/** The level of the fields that is shown now; none where there are none or their bytes are not there yet. */
function field_now() {
  return fields_of(state.reference)?.find(state.image) ?? null;
}

/** The picture with what is warped over it: in pale grey, so that both can be told apart. */
function lay_warped(context, field, picture, opacity) {
  const { width, height } = context.canvas, factor = Math.min(1, 512 / Math.max(width, height)); // the browser does the rest
  const under = document.createElement("canvas");
  [under.width, under.height] = [width, height];
  const copy = under.getContext("2d");
  copy.filter = "grayscale(1)";
  copy.drawImage(context.canvas, 0, 0);
  context.drawImage(under, 0, 0);
  context.save();
  context.globalAlpha = 0.6;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.globalAlpha = opacity;
  context.imageSmoothingQuality = "high";
  context.drawImage(warped(field, picture, ...[width, height].map((side) => Math.max(1, Math.round(side * factor)))), 0, 0, width, height);
  context.restore();
}

/** An ellipse of one standard deviation around where a field points, in fractions of a canvas of this width to its height. */
function ellipse({ y, x, sy, sx, yx }, ratio) {
  const [a, b, c] = [sx * sx * ratio * ratio, yx * ratio, sy * sy]; // in heights of the canvas
  const middle = (a + c) / 2, half = Math.hypot((a - c) / 2, b);
  const [long, short] = [middle + half, Math.max(0, middle - half)].map(Math.sqrt);
  const mark = outline("ellipse", [y, x]);
  mark.style.width = `${((200 * long) / ratio).toFixed(3)}%`;
  mark.style.height = `${(200 * short).toFixed(3)}%`;
  mark.style.transform = `translate(-50%, -50%) rotate(${Math.atan2(2 * b, a - c) / 2}rad)`;
  return mark;
}

/** Where what is asked about points: {side, y, x, ...} on the other picture. */
function pointed() {
  const place = picked(), now = field_now();
  if (!place || place.y === undefined || !now) return null;
  const found = now[place.side === "generated" ? "g2r" : "r2g"].at(place);
  return found && { side: place.side === "generated" ? "reference" : "generated", level: now, ...found };
}

/** Whether the reference can be painted onto the image. */
function can_warp() {
  return Boolean(fields_of(state.reference) && run.pictures.references[state.reference]?.length);
}

/** For each of `out` pixels: the patch before it, among `n` patches and one more at either end, and how far it is on to the next. */
function steps(n, out) {
  return Array.from({ length: out }, (_, i) => {
    const at = ((i + 0.5) * n) / out + 0.5, from = Math.max(0, Math.min(n, Math.floor(at)));
    return [from, at - from];
  });
}

/** Values with one patch more at every edge, on the straight line through the last two, or equal to the last. */
function wider(values, h, w, straight) {
  const out = new Float32Array((h + 2) * (w + 2)), W = w + 2;
  const on = (last, next) => (straight && !isNaN(next) ? 2 * last - next : last);
  for (let y = 0; y < h; y++) {
    const row = values.subarray(y * w, y * w + w), at = (y + 1) * W;
    out.set(row, at + 1);
    out[at] = on(row[0], row[Math.min(1, w - 1)]);
    out[at + w + 1] = on(row[w - 1], row[Math.max(0, w - 2)]);
  }
  for (let x = 0; x < W; x++) {
    out[x] = on(out[W + x], out[Math.min(2, h) * W + x]);
    out[(h + 1) * W + x] = on(out[h * W + x], out[Math.max(1, h - 1) * W + x]);
  }
  return out;
}

const warps = new Map(); // field -> {source, canvas}

/** The reference as the field moves it, W x H pixels, with what looks everywhere left transparent. */
function warped(field, picture, W, H) {
  const known = warps.get(field);
  if (known?.source === picture && known.canvas.width === W && known.canvas.height === H) return known.canvas;
  const { naturalWidth: w, naturalHeight: h } = picture, factor = Math.min(1, 768 / Math.max(w, h));
  const size = [w, h].map((side) => Math.max(1, Math.round(side * factor)));
  const source = document.createElement("canvas");
  [source.width, source.height] = size;
  const context = source.getContext("2d");
  context.drawImage(picture, 0, 0, ...size);
  const from = context.getImageData(0, 0, ...size).data, out = new ImageData(W, H);
  const planes = [field.y, field.x].map((values) => wider(values, field.h, field.w, true)), seen = wider(field.seen, field.h, field.w, false);
  const down = steps(field.h, H), across = steps(field.w, W), wide = field.w + 2;
  for (let i = 0; i < H; i++)
    for (let j = 0; j < W; j++) {
      let y = 0, x = 0, opacity = 0, sum = 0;
      for (let k = 0; k < 4; k++) {
        const at = (down[i][0] + (k >> 1)) * wide + across[j][0] + (k & 1);
        const weight = (k >> 1 ? down[i][1] : 1 - down[i][1]) * (k & 1 ? across[j][1] : 1 - across[j][1]);
        opacity += weight * seen[at];
        if (isNaN(planes[0][at])) continue;
        [y, x, sum] = [y + weight * planes[0][at], x + weight * planes[1][at], sum + weight];
      }
      if (!sum) continue;
      const place = [y / sum, x / sum].map((part, axis) => Math.max(0, Math.min(size[1 - axis] - 1, part * size[1 - axis] - 0.5)));
      const [top, left] = place.map(Math.floor), pixel = 4 * (i * W + j);
      const mixed = [0, 0, 0, 255 * opacity];
      for (let k = 0; k < 4; k++) {
        const at = 4 * (Math.min(size[1] - 1, top + (k >> 1)) * size[0] + Math.min(size[0] - 1, left + (k & 1)));
        const weight = (k >> 1 ? place[0] - top : 1 - place[0] + top) * (k & 1 ? place[1] - left : 1 - place[1] + left);
        for (let c = 0; c < 3; c++) mixed[c] += weight * from[at + c];
      }
      out.data.set(mixed, pixel);
    }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [W, H];
  canvas.getContext("2d").putImageData(out, 0, 0);
  if (warps.size > 60) warps.clear();
  warps.set(field, { source: picture, canvas });
  return canvas;
}
