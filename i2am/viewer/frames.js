// Videos: a row of bars with what each frame has, a slider over the frames, and a button that plays them.
const PACE = 250; // milliseconds a frame

class Reel {
  constructor(figure) {
    this.side = figure.side;
    this.bars = h("div", { class: "course", "aria-hidden": "true", onclick: (event) => this.point(event) });
    this.slider = h("input", { type: "range", min: 0, step: 1, name: `frame-${this.side}`, "aria-label": "Frame", oninput: () => this.go(Number(this.slider.value)) });
    this.button = h("button", { type: "button", class: "plain play", onclick: () => (this.timer ? this.stop() : this.play()) });
    this.said = h("output", {});
    this.root = h("div", { class: "reel" }, this.button, h("div", { class: "over" }, this.bars, this.slider), this.said);
    figure.root.querySelector("figcaption").prepend(this.root);
    listeners.push(() => this.draw());
  }

  go(frame) {
    this.stop();
    show_frame(this.side, frame);
  }

  point(event) {
    const bars = [...this.bars.children].map((bar) => bar.getBoundingClientRect());
    const away = bars.map(({ left, width }) => Math.abs(left + width / 2 - event.clientX));
    this.go(away.indexOf(Math.min(...away)));
  }

  play() {
    this.timer = setInterval(() => show_frame(this.side, state.frames[this.side] + 1), PACE);
    this.draw();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.draw();
  }

  /** What each frame has of the painted map: its share of all, or at the patch that is asked about. */
  course(count) {
    const shown = painted(), paint = shown[this.side], set = paint && set_of(paint.kind, state.reference);
    if (!paint || paint.of === null) return null;
    const level = level_of(set), place = picked(), here = place?.y !== undefined && place.side === this.side ? place : null;
    const parts = Array.from({ length: count }, (_, frame) => {
      const { course } = paint.map, map = course ? course[set.cells.frames.indexOf(frame)] : set.map(state.image, level, paint.item, frame);
      return !map ? 0 : here ? reading(map, here).value : map.total;
    });
    const total = parts.reduce((a, b) => a + b, 0);
    return { here, parts: parts.map((part) => (total > 0 ? part / total : 0)) };
  }

  draw() {
    const count = frames_on(this.side);
    this.root.hidden = !count;
    if (!count) return this.timer && this.stop();
    if (this.bars.children.length !== count) this.bars.replaceChildren(...Array.from({ length: count }, () => h("i")));
    const now = state.frames[this.side], course = this.course(count), most = Math.max(...(course?.parts ?? [1])) || 1;
    [...this.bars.children].forEach((bar, frame) => {
      bar.style.setProperty("--at", count > 1 ? frame / (count - 1) : 0.5);
      bar.style.setProperty("--part", course ? (course.parts[frame] / most).toFixed(4) : 0);
      bar.classList.toggle("now", frame === now);
      bar.title = `frame ${frame}${course ? `: ${percent(course.parts[frame])}` : ""}`;
    });
    this.bars.style.setProperty("--count", count);
    this.bars.classList.toggle("off", !course);
    this.slider.max = count - 1;
    this.slider.value = now;
    const share = course ? `${percent(course.parts[now])} ${course.here ? "at this patch" : "of the map"}` : "";
    this.slider.setAttribute("aria-valuetext", `frame ${now}${share ? `, ${share}` : ""}`);
    this.said.replaceChildren(h("b", {}, `frame ${now}`), h("span", {}, share));
    this.button.textContent = this.timer ? "\u275a\u275a" : "\u25b6";
    this.button.setAttribute("aria-label", `${this.timer ? "Stop" : "Play"} the ${this.side === "generated" ? "generated video" : "reference"}`);
  }
}

const reels = {};

function build_reels() {
  for (const figure of Object.values(figures)) reels[figure.side] = new Reel(figure);
}

/** Comma and full stop step everywhere; arrow keys where nothing else has the focus. */
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const idle = document.activeElement === document.body || !document.activeElement;
  const step = { ",": -1, ".": 1, ...(idle ? { ArrowLeft: -1, ArrowRight: 1 } : {}) }[event.key];
  const side = document.activeElement?.closest("figure")?.dataset.side;
  const moved = [side, "generated", "reference"].find((one) => one && frames_on(one));
  if (!step || !moved) return;
  event.preventDefault();
  reels[moved].go(state.frames[moved] + step);
});
