"use strict";
// The browser of units. Data comes as scripts that call nemesis.receive, so the page opens from disk;
// all text is set as text, never as markup.
const nemesis = (() => {
  const BATCH = 48; // units that are put into the list between two frames
  const SERVED = 2; // rows of the list that get their images in one frame
  const FAST = 250; // px between two frames, above which no images are loaded
  const CLEAN = 0; // number of the setting without corruption
  const page = document.body.dataset.page;
  const data = new Map(), loading = new Map();
  const form = document.getElementById("choose"), list = document.getElementById("list");
  const detail = document.getElementById("detail"), count = document.getElementById("count");
  const state = { unit: null, layer: null, rows: [], turn: 0 };
  const wished = new URLSearchParams(location.hash.startsWith("#units?") ? location.hash.slice(7) : "");

  // --- data -----------------------------------------------------------------------------------
  const encode = (name) => name.split("/").map(encodeURIComponent).join("/");

  function receive(name, value) {
    data.set(name, value);
    if (name === "catalogue") start(value.layers);
  }

  function load(name) {
    if (data.has(name)) return Promise.resolve(data.get(name));
    if (!loading.has(name)) {
      loading.set(name, new Promise((done, failed) => {
        const script = document.createElement("script");
        script.src = `layers/${encode(name)}.js`;
        script.onload = () => { script.remove(); done(data.get(name)); };
        script.onerror = () => failed(new Error(`layers/${name}.js cannot be read: make the report again`));
        document.head.append(script);
      }));
    }
    return loading.get(name);
  }

  const address = () => `${form.probe.value}/${form.model.value}/${form.layer.value}`;

  /** Images of a unit under a setting, or null where there are none. */
  async function loadTops(number, unit) {
    const pieces = number === CLEAN ? state.layer.pieces : state.layer.settings[number - 1].pieces;
    const piece = pieces.findIndex((units) => units.includes(unit));
    if (piece < 0) return null;
    return (await load(`${address()}/top-${number}-${piece}`))[unit] ?? null;
  }

  // --- small parts of the page --------------------------------------------------------------
  function make(tag, properties = {}, ...children) {
    const svg = ["svg", "line", "polyline", "circle", "text"].includes(tag);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  }

  /** A number as readers see it; its full precision is the title and data-value. */
  function show(value, properties = {}) {
    if (value === null || value === undefined || value === "") return make("span", properties, "–");
    if (typeof value === "boolean") return make("span", { ...properties, "data-value": String(value) }, value ? "yes" : "no");
    if (typeof value !== "number") return make("span", properties, value);
    const text = Number.isInteger(value) ? String(value) : Math.abs(value) < 0.0005 ? value.toExponential(1) : value.toFixed(3);
    return make("span", { ...properties, "data-value": value, title: String(value) }, text);
  }

  function picture(number, mask, poisoned) {
    const source = `${page}/images/${encodeURIComponent(form.probe.value)}/${number}.jpg`;
    const alt = `image ${number}${poisoned ? ", corrupted" : ""}, bright where the unit is active`;
    const box = make("span", { class: poisoned ? "picture poisoned" : "picture", title: `image ${number}${poisoned ? ", corrupted" : ""}` });
    box.append(make("img", { src: source, alt, decoding: "async" }), make("img", { src: mask, alt: "", decoding: "async" }));
    return box;
  }

  function fill(strip, entry) {
    strip.replaceChildren(...(entry ? entry.tops.map((top) => picture(...top)) : ["no images"]));
  }

  function options(select, values, wanted, texts = values) {
    const kept = wanted ?? select.value;
    select.replaceChildren(...values.map((value, place) => make("option", { value }, texts[place])));
    select.value = values.map(String).includes(kept) ? kept : String(values[0] ?? "");
    select.disabled = values.length < 2;
  }

  const distinct = (values) => [...new Set(values)];

  // --- choosing -----------------------------------------------------------------------------
  let layers = [];
  const wish = (name) => { const value = wished.get(name); wished.delete(name); return value; };

  function start(found) {
    layers = found;
    if (!layers.length) { count.textContent = "This run has no units to show."; form.hidden = true; return; }
    state.unit = wished.has("unit") ? Number(wish("unit")) : null;
    for (const name of ["text", "outcome", "sort"]) if (wished.has(name)) form[name].value = wish(name);
    for (const name of ["labelled", "descending"]) form[name].checked = wish(name) === "yes";
    choosePlace();
    if (location.hash.startsWith("#units")) document.getElementById("units").scrollIntoView();
  }

  function choosePlace() {
    options(form.probe, distinct(layers.map((one) => one.probe)), wish("probe"));
    const models = layers.filter((one) => one.probe === form.probe.value);
    options(form.model, distinct(models.map((one) => one.model)), wish("model"));
    options(form.layer, distinct(models.filter((one) => one.model === form.model.value).map((one) => one.layer)), wish("layer"));
    openLayer();
  }

  async function openLayer() {
    const turn = ++state.turn;
    count.textContent = "loading …";
    try {
      const layer = await load(`${address()}/units`);
      if (turn !== state.turn) return;
      state.layer = layer;
    } catch (error) { return complain(error); }
    const { units, settings, min_iou: least } = state.layer;
    document.getElementById("min-iou").textContent = least;
    form.labelled.disabled = !units.iou;
    for (const option of form.sort.options) option.disabled = !(option.value in units || (option.value === "f1" && settings.some((one) => one.rows.f1)));
    if (form.sort.selectedOptions[0]?.disabled) form.sort.value = "unit";
    const categories = distinct((units.category ?? []).filter(Boolean)).sort();
    options(form.category, ["", ...categories], wish("category"), ["all", ...categories]);
    chooseCorruption();
  }

  function chooseCorruption() {
    const { settings } = state.layer;
    options(form.corruption, settings.length ? distinct(settings.map((one) => one.corruption)) : ["none"], wish("corruption"));
    const same = settings.filter((one) => one.corruption === form.corruption.value);
    document.getElementById("measure").textContent = same[0]?.measure === "eps" ? "eps (1/255)" : same[0]?.measure ?? "size";
    const sizes = distinct(same.map((one) => one.size)).sort((a, b) => a - b);
    options(form.size, sizes, wish("size") ?? (sizes.map(String).includes(form.size.value) ? form.size.value : String(sizes.at(-1) ?? "")));
    const parts = distinct(same.filter((one) => String(one.size) === form.size.value).map((one) => one.part));
    options(form.part, parts, wish("part") ?? (parts.includes(form.part.value) ? form.part.value : parts.at(-1)), parts.map((part) => part || "all attacked units"));
    showList();
  }

  /** Number of the chosen setting; 0 where there is no corruption. */
  function chosen() {
    return 1 + state.layer.settings.findIndex((one) =>
      one.corruption === form.corruption.value && String(one.size) === form.size.value && one.part === form.part.value);
  }

  // --- the list -----------------------------------------------------------------------------
  const atRow = (columns, row) => Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[row]]));

  function join(number) {
    const after = new Map();
    if (number) {
      const columns = state.layer.settings[number - 1].rows;
      columns.unit.forEach((unit, row) => after.set(unit, atRow(columns, row)));
    }
    const { units } = state.layer;
    return units.unit.map((unit, row) => ({ ...atRow(units, row), after: after.get(unit) ?? null }));
  }

  function passes(row) {
    const text = form.text.value.trim().toLowerCase(), after = row.after ?? {};
    if (form.labelled.checked && !(row.iou >= state.layer.min_iou)) return false;
    if (form.category.value && row.category !== form.category.value) return false;
    if (form.outcome.value === "changed" && after.manipulated !== true) return false;
    if (form.outcome.value === "kept" && after.manipulated !== false) return false;
    if (form.outcome.value === "redescribed" && after.redescribed !== true) return false;
    return !text || [row.label, row.description, after.label, after.description].some((word) => word?.toLowerCase().includes(text));
  }

  function order(rows) {
    const key = form.sort.value, sign = form.descending.checked ? -1 : 1;
    const value = (row) => (key === "f1" ? row.after?.f1 : row[key]) ?? null;
    return rows.sort((a, b) => {
      const [first, second] = [value(a), value(b)];
      if (first === null || second === null) return (first === null) - (second === null) || a.unit - b.unit;
      return sign * (first - second) || a.unit - b.unit;
    });
  }

  // Rows in view wait here for their images: a few a frame, so that scrolling stays smooth.
  const waiting = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) waiting.add(target); else if (!waiting.delete(target)) target.querySelector(".strip").replaceChildren();
    }
    if (waiting.size) requestAnimationFrame(serve);
  }, { rootMargin: "300px 0px" });

  let serving = false, place = 0;
  function serve() {
    if (serving) return;
    serving = true;
    const fast = Math.abs(scrollY - place) > FAST;
    place = scrollY;
    const rows = fast ? [] : [...waiting].slice(0, SERVED);
    for (const row of rows) {
      waiting.delete(row);
      loadTops(CLEAN, Number(row.dataset.unit)).then((entry) => row.isConnected && fill(row.querySelector(".strip"), entry), complain);
    }
    requestAnimationFrame(() => { serving = false; if (waiting.size) serve(); });
  }

  function item(row, place, total) {
    const words = make("span", { class: "words" }, make("span", { class: "number" }, `${row.unit}`));
    if ("label" in row) words.append(make("span", { class: "before" }, row.label || (row.dead ? "dead" : "no label"), " "), show(row.iou));
    if (row.after && "label" in row.after) {
      const { manipulated, label, iou } = row.after;
      words.append(" → ", make("span", { class: manipulated ? "after changed" : "after" }, label || "no label"), " ", show(iou));
    }
    const button = make("button", { class: "unit", type: "button", tabindex: place ? -1 : 0, "aria-current": row.unit === state.unit ? "true" : "false" });
    const text = make("span", { class: "text" }, words);
    if (row.description) {
      text.append(make("span", { class: "words" }, `“${row.description}”`,
        ...(row.after?.f1 != null ? [" → ", make("span", { class: row.after.redescribed ? "after changed" : "after" }, `“${row.after.description}”`), " F1 ", show(row.after.f1)] : [])));
    }
    button.append(text, make("span", { class: "strip" }));
    const node = make("li", { "data-unit": row.unit, "aria-posinset": place + 1, "aria-setsize": total }, button);
    watcher.observe(node);
    return node;
  }

  function showList() {
    const turn = ++state.turn;
    watcher.disconnect();
    waiting.clear();
    state.rows = join(chosen());
    const rows = order(state.rows.filter(passes));
    count.textContent = `${rows.length} of ${state.rows.length} units`;
    list.replaceChildren();
    let next = 0;
    const grow = () => {
      if (turn !== state.turn) return;
      const part = document.createDocumentFragment();
      for (const end = Math.min(next + BATCH, rows.length); next < end; next++) part.append(item(rows[next], next, rows.length));
      list.append(part);
      if (next < rows.length) requestAnimationFrame(() => setTimeout(grow)); else list.dataset.complete = turn;
    };
    grow();
    if (state.unit !== null) openUnit(state.unit, false);
    remember();
  }

  // --- one unit -----------------------------------------------------------------------------
  function pairs(entry) {
    const box = make("div", { class: "pairs" }, ...["clean", "corrupted", "difference, magnified"].map((text) => make("span", {}, text)));
    const probe = encodeURIComponent(form.probe.value);
    const folder = entry.folder ? `layers/${encode(address())}/${encode(entry.folder)}` : `${page}/noisy/${probe}/${encodeURIComponent(entry.noisy)}`;
    for (const number of entry.beside) {
      const sources = [`${page}/images/${probe}/${number}.jpg`, `${folder}/${number}.jpg`, `${folder}/${number}-difference.jpg`];
      const texts = ["clean", "corrupted", "difference of the two, magnified"];
      box.append(...sources.map((src, place) => make("img", { src, loading: "lazy", alt: `image ${number}, ${texts[place]}` })));
    }
    return box;
  }

  /** IoU over the size of the corruption: of the clean label (where known) and of the label found. */
  function chart(row) {
    const { corruption, part } = state.layer.settings[chosen() - 1];
    const points = [{ size: 0, iou: row.iou, source_iou: row.iou, label: row.label }];
    for (const setting of state.layer.settings) {
      const place = setting.corruption === corruption && setting.part === part ? setting.rows.unit.indexOf(row.unit) : -1;
      if (place >= 0 && setting.rows.iou) points.push({ ...atRow(setting.rows, place), size: setting.size });
    }
    if (points.length < 2 || row.iou == null) return null;
    points.sort((a, b) => a.size - b.size);
    const top = Math.max(...points.flatMap((one) => [one.iou ?? 0, one.source_iou ?? 0]), 1e-6), far = points.at(-1).size || 1;
    const x = (size) => 45 + (330 * size) / far, y = (value) => 130 - (105 * value) / top;
    const svg = make("svg", { class: "chart", viewBox: "0 0 460 165", role: "img" });
    svg.setAttribute("aria-label", points.map((one) => `${one.size}: ${one.label || "no label"} ${one.iou}`).join("; "));
    svg.append(make("line", { x1: 40, y1: 130, x2: 390, y2: 130, stroke: "currentColor" }), make("text", { x: 2, y: 30 }, top.toFixed(3)), make("text", { x: 2, y: 134 }, "0"));
    for (const [name, colour] of [["source_iou", "var(--before)"], ["iou", "var(--after)"]]) {
      const known = points.filter((one) => one[name] != null);
      if (name === "source_iou" && known.length < 2) continue;
      svg.append(make("polyline", { points: known.map((one) => `${x(one.size)},${y(one[name])}`).join(" "), fill: "none", stroke: colour, "stroke-width": 2 }));
      svg.append(...known.map((one) => make("circle", { cx: x(one.size), cy: y(one[name]), r: 3.5, fill: colour })));
    }
    for (const one of points) svg.append(make("text", { x: x(one.size) - 8, y: 146 }, String(one.size)), make("text", { x: x(one.size) + 5, y: y(one.iou ?? 0) - 6 }, one.label || "no label"));
    svg.append(make("text", { x: 130, y: 162 }, `${state.layer.settings[chosen() - 1].measure === "eps" ? "eps (1/255)" : "std"}, 0: clean`));
    return svg;
  }

  function facts(pairs) {
    const known = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
    return make("dl", {}, ...known.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, show(value, { "data-name": name }))]));
  }

  /** Every corruption of a unit in one table. */
  function outcomes(unit) {
    const names = ["corruption", "size", "which", "label", "IoU", "changed", "description", "F1"];
    const body = make("tbody");
    state.layer.settings.forEach((setting) => {
      const place = setting.rows.unit.indexOf(unit);
      if (place < 0) return;
      const row = atRow(setting.rows, place);
      const cells = [setting.corruption, String(setting.size), setting.part, row.label, row.iou, row.manipulated ?? row.redescribed, row.description, row.f1];
      body.append(make("tr", {}, ...cells.map((cell) => make("td", {}, show(cell)))));
    });
    const head = make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name))));
    return make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "every corruption of this unit" }, make("table", {}, head, body));
  }

  function describeClean(row) {
    return facts([
      ["label", row.label], ["category", row.category], ["IoU", row.iou],
      ["second label", row.label_2], ["its IoU", row.iou_2], ["margin", row.margin],
      ["threshold", row.threshold], ["null churn", row.null_churn],
      ["minimum epsilon (1/255)", row.minimum_epsilon], ["description (MILAN)", row.description], ["F1 when resampled", row.null_f1],
    ]);
  }

  function describeAfter(after) {
    return facts([
      ["label", after.label], ["category", after.category], ["IoU", after.iou], ["label changed", after.manipulated],
      ["source concept", after.source], ["its IoU", after.source_iou], ["target", after.target], ["target's IoU", after.target_iou],
      ["target hit", after.target_hit], ["images poisoned", after.n_poisoned], ["largest change (1/255)", after.linf],
      ["PSNR (dB)", after.psnr], ["SSIM", after.ssim], ["threshold", after.threshold],
      ["label under noise of the same size", after.noise_label],
      ["description (MILAN)", after.description], ["F1-BERT", after.f1], ["description changed", after.redescribed],
    ]);
  }

  async function openUnit(unit, focus = true) {
    const row = state.rows.find((one) => one.unit === unit);
    if (!row) { detail.replaceChildren(make("p", { class: "note" }, `Unit ${unit} is not in this layer.`)); return; }
    state.unit = unit;
    const number = chosen(), turn = state.turn;
    for (const button of list.querySelectorAll("[aria-current='true']")) button.setAttribute("aria-current", "false");
    list.querySelector(`[data-unit="${unit}"] button`)?.setAttribute("aria-current", "true");
    const masks = make("input", { type: "checkbox", checked: true });
    masks.addEventListener("change", () => detail.classList.toggle("plain", !masks.checked));
    detail.classList.remove("plain");
    const before = make("div", { class: "strip" }), after = make("div", { class: "strip" }), beside = make("div");
    const parts = [make("h2", {}, `Unit ${unit} of ${form.layer.value}`), make("label", {}, masks, " show where the unit is active"),
      make("h3", { class: "before" }, "Before"), before];
    const sides = make("div", { class: "sides" }, describeClean(row));
    if (number) {
      const setting = state.layer.settings[number - 1];
      parts.push(make("h3", { class: "after" }, `After: ${setting.corruption}, ${setting.measure} ${setting.size}${setting.measure === "eps" ? "/255" : ""}${setting.part ? `, ${setting.part}` : ""}`));
      if (row.after) {
        const drawn = chart(row);
        parts.push(after);
        sides.append(describeAfter(row.after));
        const curve = drawn ? make("div", {}, make("h3", {}, "IoU over the size of the corruption"), drawn) : null;
        parts.push(make("h3", {}, "Before and after in numbers"), sides, make("div", { class: "halves" }, beside, curve));
      } else parts.push(make("p", { class: "note" }, "This unit was not corrupted so."), sides);
    } else parts.push(sides);
    parts.push(make("h3", {}, "Every corruption of this unit"), outcomes(unit));
    detail.replaceChildren(...parts);
    detail.dataset.unit = unit;
    if (focus) { detail.focus({ preventScroll: true }); detail.scrollTop = 0; }
    remember();
    try {
      const shown = await Promise.all([loadTops(CLEAN, unit), number && row.after ? loadTops(number, unit) : null]);
      if (turn !== state.turn || state.unit !== unit) return;
      fill(before, shown[0]);
      if (!row.after) return;
      fill(after, shown[1]);
      if (shown[1]?.beside) beside.append(make("h3", {}, "Corrupted images beside the clean ones"), pairs(shown[1]));
    } catch (error) { complain(error); }
  }

  // --- what the user does -------------------------------------------------------------------
  function remember() {
    const kept = new URLSearchParams();
    for (const name of ["probe", "model", "layer", "corruption", "size", "part", "category", "text", "outcome", "sort"]) if (form[name].value) kept.set(name, form[name].value);
    for (const name of ["labelled", "descending"]) if (form[name].checked) kept.set(name, "yes");
    if (state.unit !== null) kept.set("unit", state.unit);
    if (touched) history.replaceState(null, "", `#units?${kept}`);
  }
  let touched = location.hash.startsWith("#units?");

  function complain(error) { count.textContent = error.message; }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    touched = true;
    const { name } = event.target;
    if (["probe", "model", "layer"].includes(name)) { state.unit = null; detail.replaceChildren(); choosePlace(); }
    else if (["corruption", "size"].includes(name)) chooseCorruption();
    else showList();
  });
  list.addEventListener("click", (event) => {
    const unit = event.target.closest("li")?.dataset.unit;
    if (unit !== undefined) { touched = true; openUnit(Number(unit)); }
  });
  list.addEventListener("keydown", (event) => {
    const here = event.target.closest("li");
    const there = { ArrowDown: here?.nextElementSibling, ArrowUp: here?.previousElementSibling, Home: list.firstElementChild, End: list.lastElementChild }[event.key];
    if (!there) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    const button = there.querySelector("button");
    button.tabIndex = 0;
    button.focus();
  });
  detail.addEventListener("keydown", (event) => {
    if (event.key === "Escape") (list.querySelector(`[data-unit="${state.unit}"] button`) ?? list.querySelector("button"))?.focus();
  });
  return { receive };
})();
