// Mouse, finger and keys on the two canvases.
const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** Where on the picture a pointer is. */
function place_of(figure, event) {
  const { left, top, width, height } = figure.box.getBoundingClientRect();
  const part = (x) => Math.max(0, Math.min(0.999999, x));
  return { side: figure.side, y: part((event.clientY - top) / height), x: part((event.clientX - left) / width) };
}

/** The middle of the patch that a place lies in, so that two places in one patch are the same. */
function middle_of(figure, place) {
  const paint = figure.side === "generated" ? specific_at(place) : null;
  const [top, left, bottom, right] = paint?.box ?? figure.patch(place, null);
  return { side: figure.side, y: (top + bottom) / 2, x: (left + right) / 2 };
}

/** Keep what lies at a place, or let it go if it was kept before. */
function keep(figure, place, before = state) {
  const specific = figure.side === "generated" ? specific_at(place) : null;
  if (specific?.place) return choose({ region: before.region === specific.item ? null : specific.item, pin: null });
  const next = middle_of(figure, place), { pin } = before;
  const same = pin && pin.side === next.side && Math.abs(pin.y - next.y) + Math.abs(pin.x - next.x) < 1e-6;
  choose({ pin: same ? null : next, region: null });
}

function listen(figure) {
  const { box } = figure;
  let before = state; // what was kept when the finger or button came down
  box.addEventListener("pointerdown", () => (before = { pin: state.pin, region: state.region }));
  box.addEventListener("pointermove", (event) => {
    if (!figure.alive) return;
    const place = place_of(figure, event);
    if (event.pointerType === "touch") choose({ pin: middle_of(figure, place), region: null });
    else choose({ hover: place });
  });
  box.addEventListener("pointerleave", () => choose({ hover: null }));
  box.addEventListener("click", (event) => figure.alive && keep(figure, place_of(figure, event), before));
  box.addEventListener("blur", () => choose({ hover: null }));
  box.addEventListener("keydown", (event) => {
    if (!figure.alive || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = KEYS[event.key], pinned = state.pin?.side === figure.side;
    if (step) {
      const [rows, columns] = figure.grid(), from = pinned ? state.pin : state.hover?.side === figure.side ? state.hover : null;
      const next = from ? moved(figure, from, step, rows, columns) : middle_of(figure, { side: figure.side, y: 0.5, x: 0.5 });
      choose(pinned ? { pin: next, hover: null } : { hover: next });
    } else if (event.key === "Enter" || event.key === " ") keep(figure, (pinned ? state.pin : state.hover?.side === figure.side ? state.hover : null) ?? { y: 0.5, x: 0.5 });
    else return;
    event.preventDefault();
  });
}

/** One patch further, not over the edge. */
function moved(figure, from, [down, right], rows, columns) {
  const { y, x } = middle_of(figure, from), part = (at) => Math.max(0, Math.min(0.999999, at));
  return middle_of(figure, { side: figure.side, y: part(y + down / rows), x: part(x + right / columns) });
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape") choose({ pin: null, region: null, hover: null });
});
