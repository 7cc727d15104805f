// The rail: every choice there is for this run, as native controls.
const rail = document.getElementById("controls");
const charts = ["time", "head", "layer"].map((level) => new Chart(level));

/** A group of radio buttons; `refresh` marks the one that is chosen. */
function radios(kind, legend, name, options, chosen, change) {
  const inputs = options.map(([value]) => h("input", { type: "radio", name, value, onchange: () => change(value) }));
  const labels = options.map(([value, ...inside], i) => h("label", {}, inputs[i], ...inside));
  const group = h("fieldset", { class: kind }, h("legend", { class: "away" }, legend), ...labels);
  listeners.push(() => inputs.forEach((input) => (input.checked = input.value === String(chosen()))));
  return group;
}

function directions_control() {
  const options = directions.map((kind) => [kind, h("b", {}, kind === "words" ? "Words" : kind.toUpperCase()), h("span", {}, ABOUT[kind])]);
  if (fields.length) options.push(["warp", h("b", {}, "Warp"), h("span", {}, ABOUT.warp)]);
  const group = radios("cards", "What is painted", "direction", options, () => (state.warp ? "warp" : state.direction),
    (chosen) => choose(chosen === "warp" ? { warp: true } : { warp: false, direction: chosen }));
  const why = h("p", { class: "say" });
  listeners.push(() => {
    const lost = ["r2g", "g2r", "words"].filter((kind) => kinds.has(kind) && !set_of(kind, state.reference));
    group.querySelectorAll("input").forEach((input) => (input.disabled = input.value === "warp" ? !can_warp() : !set_of(input.value, state.reference)));
    const absent = run.lacks.filter((lack) => lack.kind !== "specific" && (lack.reference === state.reference || lack.reference === null));
    const said = absent.filter((lack) => lost.includes(lack.kind) || !kinds.has(lack.kind)).map((lack) => `No ${lack.kind.toUpperCase()}. ${sentence(lack.why)}`);
    if (fields_of(state.reference) && !can_warp()) said.push("No warp without a picture of the reference.");
    why.textContent = said.join(" ");
    why.hidden = !why.textContent;
  });
  return h("section", {}, h("h3", {}, "What is painted"), group, why);
}

function words_control() {
  const room = h("div");
  let names = "";
  listeners.push(() => {
    const now = set_of("words", null).names_of(state.image);
    if (now.join("\n") !== names) {
      names = now.join("\n");
      const inputs = now.map((word) => h("input", { type: "radio", name: "word", value: word, onchange: () => choose({ warp: false, direction: "words", word }) }));
      room.replaceChildren(h("fieldset", { class: "chips" }, h("legend", { class: "away" }, "Word"),
        ...now.map((word, i) => h("label", { title: word }, inputs[i], word))));
    }
    room.querySelectorAll("input").forEach((input) => (input.checked = !state.warp && state.direction === "words" && input.value === state.word));
  });
  return h("section", { id: "words" }, h("h3", {}, "Words of the prompt"), room);
}

function reference_control() {
  const select = h("select", { id: "source", onchange: () => choose({ reference: select.value, pin: null, region: null, hover: null }) },
    ...references.map((name) => h("option", { value: name }, name)));
  listeners.push(() => (select.value = state.reference));
  return h("section", {}, h("label", { class: "label", for: "source" }, "Reference"), select);
}

function level_control() {
  const group = radios("segments", "Level", "level", Object.entries(LEVELS), () => state.level, (level) => choose({ level }));
  const select = h("select", { id: "item", "aria-label": "Which of the level", onchange: () => {
    const value = state.level === "layer" ? select.value : Number(select.value);
    choose({ places: { ...state.places, [state.level]: value } });
  } });
  const why = h("p", { class: "say" });
  let held = "";
  listeners.push(() => {
    const set = current(), found = set.levels(state.image).filter((one) => one.level === state.level);
    group.querySelectorAll("input").forEach((input) => (input.disabled = input.value !== "unified" && !set.levels(state.image).some((one) => one.level === input.value)));
    const unified = state.level === "unified";
    const options = found.map((one) => [state.level === "layer" ? one.name : one.place, one.name]);
    if (JSON.stringify(options) !== held) {
      held = JSON.stringify(options);
      select.replaceChildren(...options.map(([value, name]) => h("option", { value }, unified ? "all steps, heads and layers" : name)));
    }
    select.disabled = unified;
    if (!unified) select.value = state.places[state.level];
    const lost = set.left_out ? ["Single time groups, heads and layers are left out here, to keep the file small."] : [];
    why.textContent = [...Object.values(set.absent), ...lost].join(" ");
    why.hidden = !why.textContent;
  });
  return h("section", {}, h("h3", {}, "Level"), group, select, why, h("p", { class: "say", id: "of" }), ...charts.map((chart) => chart.root));
}

function regions_control() {
  const room = h("div");
  let held = null;
  listeners.push(() => {
    const set = set_of("regions", state.reference);
    if (set !== held) {
      held = set;
      const change = (event, i, frame = state.frames.generated) => // a region of one frame takes the video there
        choose({ region: event.target.checked ? i : null, pin: null, frames: { ...state.frames, generated: frame } });
      const inputs = (set?.places ?? []).map(({ frame }, i) => h("input", { type: "checkbox", name: "region", value: i, onchange: (event) => change(event, i, frame) }));
      room.replaceChildren(h("fieldset", { class: "chips" }, h("legend", { class: "away" }, "Region"),
        ...inputs.map((input, i) => h("label", { title: set.names[0][i] + (set.places[i].at.length ? "" : ": where it lies is not kept with the maps") }, input, region_name(set.places[i], set.names[0][i])))));
    }
    room.querySelectorAll("input").forEach((input) => (input.checked = Number(input.value) === state.region));
  });
  return h("section", { id: "regions" }, h("h3", {}, "Where regions came from"), room);
}

function display_control() {
  const swatches = Object.keys(COLOURS).map((name) => {
    const sample = h("i");
    sample.style.background = ramp(name);
    return [name, sample, name];
  });
  const slider = h("input", { type: "range", id: "opacity", min: 0, max: 100, step: 5, oninput: () => choose({ [state.warp ? "clear" : "opacity"]: slider.value / 100 }) });
  const said = h("output", { for: "opacity" });
  const check = (name, text) => h("label", { class: "check" }, h("input", { type: "checkbox", name, onchange: (event) => choose({ [name]: event.target.checked }) }), text);
  const checks = h("div", { class: "checks" }, check("patches", "Show patches as they are"), check("fade", "Let low values fade"));
  listeners.push(() => {
    slider.value = Math.round(100 * (state.warp ? state.clear : state.opacity));
    said.textContent = `${slider.value} %`;
    checks.querySelectorAll("input").forEach((input) => (input.checked = state[input.name]));
  });
  return h("section", {}, h("h3", {}, "Display"),
    radios("swatches", "Colours", "colours", swatches, () => state.colours, (colours) => choose({ colours })),
    h("div", { class: "slide" }, h("label", { for: "opacity" }, "Opacity"), slider, said),
    radios("segments", "Scale of the colours", "scale", [["each", "Scale of each map"], ["shared", "Shared in a level"]], () => state.scale, (scale) => choose({ scale })),
    checks);
}

function build_controls() {
  rail.append(directions_control());
  if (kinds.has("words")) rail.append(words_control());
  if (references.length > 1) rail.append(reference_control());
  if (kinds.has("regions")) rail.append(regions_control());
  rail.append(level_control(), display_control());
  listeners.push(() => {
    charts.forEach((chart) => chart.draw());
    const set = current(), here = picked()?.y !== undefined && picked().side === canvas_of(set.kind);
    const what = set.kind === "words" ? `\u201c${state.word}\u201d` : set.kind.toUpperCase();
    const where = here ? "at this patch" : set.frames ? "in this frame" : "over the whole canvas";
    document.getElementById("of").textContent = charts.some((chart) => !chart.root.hidden) ? `Shares of ${what} ${where}` : "";
  });
}
