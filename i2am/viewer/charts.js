// Bars: how much of the chosen direction's map each time group, head and layer has; choosing one shows it.
const TITLES = { time: "Time groups", head: "Heads", layer: "Layers" };
const ENDS = { time: ["first steps, noisiest", "last steps"], head: ["first", "last"], layer: ["first called", "last called"] };

class Chart {
  constructor(level) {
    this.level = level;
    this.now = h("span", { class: "now" });
    this.bars = h("div", { class: "bars", role: "radiogroup", "aria-label": `Share of each ${level === "time" ? "time group" : level}` });
    this.root = h("div", { class: "chart", "data-level": level },
      h("div", { class: "row" }, h("h3", {}, TITLES[level]), this.now), this.bars,
      h("div", { class: "ends", "aria-hidden": "true" }, ...ENDS[level].map((end) => h("span", {}, end))));
    this.bars.addEventListener("keydown", (event) => this.key(event));
  }

  key_of(one) {
    return this.level === "layer" ? one.name : one.place;
  }

  pick(one, focus) {
    choose({ level: this.level, places: { ...state.places, [this.level]: this.key_of(one) } });
    if (focus) this.bars.children[this.found.indexOf(one)].focus();
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = [...this.bars.children].indexOf(document.activeElement);
    this.pick(this.found[(at + step + this.found.length) % this.found.length], true);
  }

  /** The share of each: of the whole map, or at the patch that is asked about if it lies on the same canvas. */
  shares(set) {
    const place = picked(), item = item_of(set);
    const here = place && place.y !== undefined && place.side === canvas_of(set.kind) ? place : null;
    const parts = this.found.map((one) => {
      const map = set.map(state.image, one, item);
      if (!here) return map.total / map.values.length; // layers have grids of their own: means compare, sums do not
      return map.values[edge(null, map.h, here.y) * map.w + edge(null, map.w, here.x)];
    });
    const total = parts.reduce((a, b) => a + b, 0);
    return { here, parts: parts.map((part) => (total > 0 ? part / total : 0)) };
  }

  draw() {
    const set = current();
    this.found = set.levels(state.image).filter((one) => one.level === this.level);
    this.root.hidden = !this.found.length;
    if (!this.found.length) return;
    const signature = set.kind + this.found.map((one) => one.name).join("\n");
    if (signature !== this.signature) {
      this.signature = signature;
      this.bars.style.gap = this.found.length > 20 ? "1px" : "3px";
      this.bars.replaceChildren(...this.found.map((one, i) => h("button", { type: "button", role: "radio", onclick: () => this.pick(this.found[i]) })));
    }
    const { here, parts } = this.shares(set), most = Math.max(...parts) || 1;
    const chosen = this.found.findIndex((one) => state.level === this.level && this.key_of(one) === state.places[this.level]);
    this.found.forEach((one, i) => {
      const bar = this.bars.children[i], said = `${one.name}: ${percent(parts[i])}${here ? " at this patch" : ""}`;
      bar.style.setProperty("--part", (parts[i] / most).toFixed(4));
      bar.setAttribute("aria-checked", String(i === chosen));
      bar.setAttribute("aria-label", said);
      bar.title = said;
      bar.tabIndex = i === Math.max(0, chosen) ? 0 : -1;
    });
    const top = parts.indexOf(Math.max(...parts));
    const [said, of] = chosen >= 0 ? [chosen, ""] : [top, "most: "];
    this.now.textContent = `${of}${short(set, this.found[said])}, ${percent(parts[said])}`;
    this.now.title = this.found[said].name;
  }
}
