// From numbers to pixels: bicubic like torch's (a = -0.75, half-pixel centres, borders repeated), then nothing below 0, then colours.
const taps = new Map();

/** For each of `out` pixels the four of `size` patches around it and their weights. */
function cubic(size, out) {
  const key = size + "," + out;
  if (taps.has(key)) return taps.get(key);
  const at = new Int32Array(out * 4), weight = new Float32Array(out * 4), a = -0.75;
  for (let i = 0; i < out; i++) {
    const place = ((i + 0.5) * size) / out - 0.5, start = Math.floor(place) - 1;
    for (let k = 0; k < 4; k++) {
      const x = Math.abs(place - start - k);
      weight[i * 4 + k] = x <= 1 ? (a + 2) * x ** 3 - (a + 3) * x ** 2 + 1 : x < 2 ? a * x ** 3 - 5 * a * x ** 2 + 8 * a * x - 4 * a : 0;
      at[i * 4 + k] = Math.max(0, Math.min(size - 1, start + k));
    }
  }
  taps.set(key, { at, weight });
  return taps.get(key);
}

function enlarged({ h, w, values }, H, W) {
  const across = cubic(w, W), down = cubic(h, H);
  const wide = new Float32Array(h * W), out = new Float32Array(H * W);
  for (let y = 0; y < h; y++)
    for (let x = 0; x < W; x++) {
      let sum = 0;
      for (let k = 4 * x; k < 4 * x + 4; k++) sum += across.weight[k] * values[y * w + across.at[k]];
      wide[y * W + x] = sum;
    }
  for (let y = 0; y < H; y++)
    for (let k = 4 * y; k < 4 * y + 4; k++) {
      const weight = down.weight[k], from = down.at[k] * W;
      for (let x = 0; x < W; x++) out[y * W + x] += weight * wide[from + x];
    }
  return out.map((value) => Math.max(0, value));
}

/** The colours of values; `fade` makes low ones transparent. */
function coloured(values, w, h, [low, high], colours, fade) {
  const picture = new ImageData(w, h), table256 = table(colours);
  const span = high - low > 1e-5 * Math.abs(high) ? high - low : Infinity; // a flat map has level 0
  for (let i = 0; i < values.length; i++) {
    const level = Math.max(0, Math.min(1, (values[i] - low) / span));
    const at = 3 * Math.round(255 * level);
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = table256[at + c];
    picture.data[4 * i + 3] = fade ? Math.round(255 * level ** 0.75) : 255;
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [w, h];
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

const even = (edges) => !edges || edges.every((edge, i) => Math.abs(edge - i / (edges.length - 1)) < 1e-3);

/** A map over whatever the context holds. */
function lay(context, shown, { colours, opacity, patches, fade }) {
  const { width, height } = context.canvas, { map, range } = shown;
  const regular = even(map.rows) && even(map.columns);
  context.save();
  context.globalAlpha = opacity;
  if (patches || !regular) {
    const small = coloured(map.values, map.w, map.h, range, colours, fade);
    context.imageSmoothingEnabled = false;
    if (regular) context.drawImage(small, 0, 0, width, height);
    else
      for (let y = 0; y < map.h; y++)
        for (let x = 0; x < map.w; x++) {
          const [left, right] = [x, x + 1].map((i) => Math.round(width * (map.columns ? map.columns[i] : i / map.w)));
          const [top, bottom] = [y, y + 1].map((i) => Math.round(height * (map.rows ? map.rows[i] : i / map.h)));
          context.drawImage(small, x, y, 1, 1, left, top, right - left, bottom - top);
        }
  } else {
    const factor = Math.min(1, 384 / Math.max(width, height)); // the browser does the rest
    const [H, W] = [height, width].map((side) => Math.max(1, Math.round(side * factor)));
    context.imageSmoothingQuality = "high";
    context.drawImage(coloured(enlarged(map, H, W), W, H, range, colours, fade), 0, 0, width, height);
  }
  context.restore();
}

/** Under the map: the picture, or squares where there is none. */
function ground(context, picture, dark) {
  const { width, height } = context.canvas;
  if (picture) {
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, width, height);
    return;
  }
  const side = Math.max(4, Math.round(Math.min(width, height) / 24));
  context.fillStyle = dark ? "#2b2e34" : "#e9e7e2";
  context.fillRect(0, 0, width, height);
  context.fillStyle = dark ? "#33363d" : "#f4f2ee";
  for (let y = 0; y * side < height; y++)
    for (let x = y % 2; x * side < width; x += 2) context.fillRect(x * side, y * side, side, side);
}
