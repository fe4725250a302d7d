// The viewer: panels of one or of all images, linked by one crosshair, zoom and window.
const LETTERS = [["A", "P", "H", "F"], ["R", "L", "H", "F"], ["R", "L", "A", "P"]];  // left, right, up, down
const PLANES = ["sagittal", "coronal", "axial"];
const TILE_MM = 32, NEAR_PX = 9, FLICKER_MS = 700, ARROW_PX = 28;
const centre = () => data.size.map((count, axis) => (count - 1) / 2 * mm[axis]);
const state = { plane: 2, cross: data.size.map((count) => count >> 1), centre: centre(), zoom: 1, divider: 0.5, second: false };
let panels = [], cuts = new Map(), waiting = false;
const view = () => at("view").value;
const mixes = () => ["swipe", "checker", "flicker", "difference"].includes(view());
const map = () => at("map").value === "" ? null : data.maps[Number(at("map").value.split(" ")[0])];
const asArrows = () => at("map").value.endsWith("arrows");
const grey = () => at("window").value === "all" ? [null, 1] : [Number(at("level").value), Math.max(1, Number(at("width").value))];

// ---- panels
function panel(numbers, plane) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption"), canvas = document.createElement("canvas");
  const names = numbers.map((number) => data.images[number].name);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${PLANES[plane]} slice of ${names.join(" and ")}`);
  canvas.tabIndex = 0;
  figure.append(caption, canvas);
  at("panels").append(figure);
  const made = { canvas, caption, numbers, plane, dots: [] };
  canvas.addEventListener("wheel", (e) => {
    e.preventDefault();
    if (e.ctrlKey) zoom(e.deltaY < 0 ? 1.15 : 1 / 1.15); else step(plane, Math.sign(e.deltaY));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (e) => {
    canvas.setPointerCapture(e.pointerId);
    canvas.focus({ preventScroll: true });
    made.last = [e.clientX, e.clientY];
    drag(e, made);
  });
  canvas.addEventListener("pointermove", (e) => { if (e.buttons) drag(e, made); else hover(e, made); });
  canvas.addEventListener("pointerleave", () => { at("tip").hidden = true; });
  canvas.addEventListener("contextmenu", (e) => e.preventDefault());
  canvas.addEventListener("keydown", (e) => key(e, made));
  panels.push(made);
}

function build() {
  panels = [];
  at("panels").textContent = "";
  const first = Number(at("first").value), second = Number(at("second").value), sides = data.images.filter((image) => image.beside);
  at("panels").className = view();
  at("panels").style.setProperty("--across", view() === "planes" ? 2 : view() === "side" ? (sides.length > 2 ? 2 : sides.length) : 1);
  at("panels").style.setProperty("--down", view() === "planes" || (view() === "side" && sides.length > 2) ? 2 : 1);
  if (view() === "side") data.images.forEach((image, number) => { if (image.beside) panel([number], state.plane); });
  else if (view() === "planes") [2, 1, 0].forEach((plane) => panel([first], plane));
  else panel(mixes() ? [first, second] : [first], state.plane);
  at("for-plane").hidden = view() === "planes";
  at("for-first").hidden = view() === "side";
  at("for-second").hidden = !mixes();
  draw();
}

// ---- from voxels of the page to pixels of a canvas
function lens(one) {
  const [a, d] = AXES[one.plane], { width, height } = one.canvas;
  const fit = Math.min(width / (data.size[a] * mm[a]), height / (data.size[d] * mm[d])) * state.zoom;
  const down = one.plane === 2 ? 1 : -1, c = state.centre;
  return {
    scale: fit,
    to: (p) => [width / 2 + (p[a] * mm[a] - c[a]) * fit, height / 2 + down * (p[d] * mm[d] - c[d]) * fit],
    from: (x, y) => {
      const p = [...state.cross];
      p[a] = ((x - width / 2) / fit + c[a]) / mm[a];
      p[d] = (down * (y - height / 2) / fit + c[d]) / mm[d];
      return p;
    },
  };
}

function cut(name, make) {  // kept while the slice and the window stay
  if (!cuts.has(name)) {
    if (cuts.size > 24) cuts.clear();
    cuts.set(name, make());
  }
  return cuts.get(name);
}

function place(pen, one, picture, size, first, spacing) {  // draw a cut where it lies
  const [a, d] = AXES[one.plane], { to, scale } = lens(one), corner = [0, 0, 0];
  corner[a] = (first[a] - spacing[a] / 2) / mm[a];
  corner[d] = (first[d] + (one.plane === 2 ? -0.5 : size[d] - 0.5) * spacing[d]) / mm[d];
  const [x, y] = to(corner);
  pen.drawImage(picture, x, y, size[a] * spacing[a] * scale, size[d] * spacing[d] * scale);
}

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    for (const one of panels) one.caption.textContent = captionOf(one.numbers.map((number) => data.images[number]));
    told();
    panels.forEach(paint);  // when all around them has its size
  });
}

function paint(one) {
  const box = one.canvas.getBoundingClientRect(), dense = Math.min(2, devicePixelRatio || 1);
  one.canvas.width = Math.max(1, Math.round(box.width * dense));
  one.canvas.height = Math.max(1, Math.round(box.height * dense));
  const pen = one.canvas.getContext("2d"), { width, height } = one.canvas, k = state.cross[one.plane];
  const images = one.numbers.map((number) => data.images[number]), [level, wide] = grey();
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, width, height);
  if (!images.every((image) => image.values)) return;
  const own = (image) => cut(`${image.name} ${one.plane} ${k} ${level} ${wide}`, () => greyCut(image, one.plane, k, greyTable(level, wide)));
  const whole = (picture) => place(pen, one, picture, data.size, [0, 0, 0], mm);
  if (view() === "difference") whole(cut(`difference ${images.map((i) => i.name)} ${one.plane} ${k}`, () => differenceCut(...images, one.plane, k)));
  else whole(own(images[view() === "flicker" && state.second ? 1 : 0]));
  if (view() === "swipe" || view() === "checker") {
    pen.save();
    pen.beginPath();
    clip(pen, one);
    pen.clip();
    pen.fillRect(0, 0, width, height);
    whole(own(images[1]));
    pen.restore();
  }
  if (map() && !images[0].raw) overlay(pen, one, k);
  if (at("points").value !== "off") dots(pen, one, images[0].raw, dense);
  furniture(pen, one, dense);
}

function captionOf(images) {
  const told = images.map((image) => {
    const hu = huAt(image, state.cross);
    return hu === null ? `${image.name}: loading …` : `${image.name}: ${Math.round(hu)}${data.unit}`;
  });
  if (view() === "difference") return `${images[1].name} minus ${images[0].name}: ${Math.round(huAt(images[1], state.cross) - huAt(images[0], state.cross))}${data.unit}; grey: equal, black and white: ${DIFFERENCE_HU}${data.unit}`;
  return view() === "flicker" ? `now ${told[state.second ? 1 : 0]}` : told.join("  |  ");
}

function clip(pen, one) {
  const { width, height } = one.canvas;
  if (view() === "swipe") { pen.rect(width * state.divider, 0, width, height); return; }
  const { scale, to } = lens(one), tile = TILE_MM * scale, [x0, y0] = to([0, 0, 0]);
  const left = x0 % (2 * tile) - 2 * tile, top = y0 % (2 * tile) - 2 * tile;
  for (let j = 0; top + j * tile < height; j++) for (let i = j % 2; left + i * tile < width; i += 2) rect(pen, left + i * tile, top + j * tile, tile);
}

function rect(pen, x, y, side) {  // on whole pixels: no seams
  pen.rect(Math.round(x), Math.round(y), Math.round(x + side) - Math.round(x), Math.round(y + side) - Math.round(y));
}

function overlay(pen, one, k) {
  const shown = map(), { to, scale } = lens(one), [a, d] = AXES[one.plane];
  if (asArrows()) { arrows(pen, one, shown, k); return; }
  place(pen, one, cut(`${at("map").value} ${one.plane} ${k}`, () => mapCut(shown, one.plane, k)), shown.size, shown.first, shown.spacing);
  pen.strokeStyle = "#ffe838";
  pen.lineWidth = 2;
  for (const [x, y] of folds(shown, one.plane, k)) {  // a black square with a yellow cross
    const p = [0, 0, 0];
    p[a] = (shown.first[a] + x * shown.spacing[a]) / mm[a];
    p[d] = (shown.first[d] + (one.plane === 2 ? y : shown.size[d] - 1 - y) * shown.spacing[d]) / mm[d];
    const [cx, cy] = to(p), half = Math.max(3, shown.spacing[a] * scale / 2);
    pen.beginPath();
    pen.moveTo(cx - half, cy - half); pen.lineTo(cx + half, cy + half);
    pen.moveTo(cx - half, cy + half); pen.lineTo(cx + half, cy - half);
    pen.stroke();
  }
}

function arrows(pen, one, shown, k) {  // as long as the motion is, where it starts in the fixed image
  const [a, d] = AXES[one.plane], { to, scale } = lens(one), strides = [1, shown.size[0], shown.size[0] * shown.size[1]];
  const every = [a, d].map((axis) => Math.max(1, Math.ceil(ARROW_PX / (shown.spacing[axis] * scale))));
  pen.lineWidth = 1.5;
  for (let y = 0; y < shown.size[d]; y += every[1]) for (let x = 0; x < shown.size[a]; x += every[0]) {
    const i = nearest(shown, one.plane, k) * strides[one.plane] + y * strides[d] + x * strides[a], p = [0, 0, 0], q = [0, 0, 0];
    p[a] = (shown.first[a] + x * shown.spacing[a]) / mm[a];
    p[d] = (shown.first[d] + y * shown.spacing[d]) / mm[d];
    q[a] = p[a] + shown.values[3 * i + a] * shown.step / mm[a];
    q[d] = p[d] + shown.values[3 * i + d] * shown.step / mm[d];
    const [x0, y0] = to(p), [x1, y1] = to(q), turn = Math.atan2(y1 - y0, x1 - x0), length = Math.hypot(x1 - x0, y1 - y0);
    if (length < 1) continue;
    const head = Math.min(6, length / 2);
    pen.strokeStyle = css(colour(CIVIDIS, 0.35 + 0.65 * mapValue(shown, i) / shown.high));
    pen.beginPath();
    pen.moveTo(x0, y0); pen.lineTo(x1, y1);
    for (const side of [2.6, -2.6]) { pen.moveTo(x1, y1); pen.lineTo(x1 + head * Math.cos(turn + side), y1 + head * Math.sin(turn + side)); }
    pen.stroke();
  }
}

function dots(pen, one, raw, dense) {
  one.dots = [];
  const { to } = lens(one), byResidual = at("points").value === "residual", radius = 4 * dense;
  for (const mark of data.marks) {
    const p = raw ? mark.moving : mark.fixed;
    if (Math.abs(p[one.plane] - state.cross[one.plane]) * mm[one.plane] > Math.max(1, mm[one.plane] / 2)) continue;
    const [x, y] = to(p);
    const tint = byResidual && mark.residual !== null ? css(colour(BLUE_ORANGE, mark.residual / data.worst_mm)) : mark.colour;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
    if (mark.held) { pen.lineWidth = 2 * dense; pen.strokeStyle = tint; pen.stroke(); }
    else { pen.fillStyle = tint; pen.fill(); pen.lineWidth = dense; pen.strokeStyle = "#000"; pen.stroke(); }
    one.dots.push([x, y, mark]);
  }
}

function furniture(pen, one, dense) {  // crosshair, letters, scale bar, divider
  const { width, height } = one.canvas, { to, scale } = lens(one), [x, y] = to(state.cross), gap = 9 * dense;
  const line = (...ends) => { pen.beginPath(); for (let i = 0; i < ends.length; i += 4) { pen.moveTo(ends[i], ends[i + 1]); pen.lineTo(ends[i + 2], ends[i + 3]); } pen.stroke(); };
  pen.lineWidth = dense;
  pen.strokeStyle = "#56b4e9";
  line(0, y, x - gap, y, x + gap, y, width, y, x, 0, x, y - gap, x, y + gap, x, height);
  pen.fillStyle = "#ffcc66";
  pen.font = `${14 * dense}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  const [left, right, up, low] = LETTERS[one.plane], edge = 11 * dense;
  const letters = [[left, edge, height / 2], [right, width - edge, height / 2], [up, width / 2, edge], [low, width / 2, height - edge]];
  const write = (words, wx, wy) => { pen.lineWidth = 3 * dense; pen.strokeStyle = "#000"; pen.strokeText(words, wx, wy); pen.fillText(words, wx, wy); };
  for (const [letter, lx, ly] of letters) write(letter, lx, ly);
  const length = [200, 100, 50, 20, 10, 5, 2, 1].find((candidate) => candidate * scale < width / 3) || 1;
  pen.strokeStyle = "#fff";
  pen.lineWidth = 2 * dense;
  line(edge, height - edge, edge + length * scale, height - edge);
  pen.fillStyle = "#fff";
  pen.textAlign = "left";
  write(length >= 10 ? `${length / 10} cm` : `${length} mm`, edge, height - 2 * edge);
  pen.strokeStyle = "#fff";
  if (view() === "swipe") line(width * state.divider, 0, width * state.divider, height);
}

function told() {  // everything outside the panels
  const plane = state.plane, k = Math.round(state.cross[plane]);
  at("slice").max = data.size[plane] - 1;
  at("slice").value = k;
  at("where").textContent = `${k + 1} of ${data.size[plane]}`;
  const mark = data.marks.find((one) => one.fixed.every((value, axis) => Math.abs(value - state.cross[axis]) < 1));
  if (data.images.every((image) => image.values)) at("cross").textContent = `Crosshair at (${lps(state.cross).map((value) => value.toFixed(1)).join(", ")}) mm, LPS, of the fixed image${mark ? `: ${mark.words}` : ""}`;
  bar();
}

function bar() {
  const box = at("bar"), parts = [];
  const strip = (scale, from, to, words) => {
    const made = document.createElement("i"), line = document.createElement("div");
    made.style.background = `linear-gradient(90deg, ${scale.map(css)})`;
    line.append(from, made, `${to} ${words}`);
    parts.push(line);
  };
  const shown = map();
  if (shown && shown.kind === "jacobian") strip(BLUE_RED, "½", "2", "times the volume, from fixed to moving (Jacobian determinant of T); black with a yellow cross: folded");
  else if (shown) strip(CIVIDIS, "0", `${shown.high.toFixed(1)} mm`, `moved by the b-spline, after the affine stage${asArrows() ? "; arrows as long as the motion, from fixed to moving" : ""}`);
  if (at("points").value === "residual" && data.worst_mm) strip(BLUE_ORANGE, "0", `${data.worst_mm.toFixed(1)} mm`, "residual at landmarks");
  box.replaceChildren(...parts);
}

// ---- what a person does
function go(p, centred = false) {
  state.cross = p.map((value, axis) => Math.max(0, Math.min(data.size[axis] - 1, Math.round(value))));
  if (centred) state.centre = state.cross.map((value, axis) => value * mm[axis]);
  draw();
}
function step(plane, by) { const p = [...state.cross]; p[plane] += by; go(p); }
function zoom(by) {
  state.zoom = Math.max(1, Math.min(30, state.zoom * by));
  if (state.zoom === 1) state.centre = centre();
  draw();
}
function setWindow(level, width) {
  at("level").value = Math.round(level);
  at("width").value = Math.max(1, Math.round(width));
  if (at("window").value !== "own") at("window").value = "own";
  draw();
}
function pan(one, x, y) {
  const [a, d] = AXES[one.plane], { scale } = lens(one), ratio = one.canvas.width / one.canvas.getBoundingClientRect().width;
  state.centre[a] -= x * ratio / scale;
  state.centre[d] -= (one.plane === 2 ? 1 : -1) * y * ratio / scale;
  draw();
}
function pixel(event, canvas) {
  const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
  return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
}
function drag(event, one) {
  const [x, y] = [event.clientX - one.last[0], event.clientY - one.last[1]], left = event.buttons & 1;
  const how = event.buttons & 2 ? "window" : event.buttons & 4 || event.shiftKey ? "pan" : at("drag").value;
  one.last = [event.clientX, event.clientY];
  const [px, py] = pixel(event, one.canvas);
  if (view() === "swipe" && left && how === "cross") { state.divider = Math.max(0, Math.min(1, px / one.canvas.width)); draw(); }
  else if (how === "window" && (x || y)) setWindow(Number(at("level").value) - 2 * y, Number(at("width").value) + 4 * x);
  else if (how === "pan") pan(one, x, y);
  else if (how === "cross") go(lens(one).from(px, py));
}
function hover(event, one) {
  const [x, y] = pixel(event, one.canvas), tip = at("tip"), near = one.dots.find((dot) => Math.hypot(dot[0] - x, dot[1] - y) < NEAR_PX);
  tip.hidden = !near || at("points").value === "off";
  if (tip.hidden) return;
  tip.textContent = near[2].words;
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 220)}px`;
  tip.style.top = `${event.clientY + 14}px`;
}
function key(event, one) {
  const [a, d] = AXES[one.plane], up = one.plane === 2 ? -1 : 1, [level, width] = [Number(at("level").value), Number(at("width").value)];
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const other = {
    PageUp: () => step(one.plane, 1), PageDown: () => step(one.plane, -1), ".": () => step(one.plane, 1), ",": () => step(one.plane, -1),
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: () => at("whole").click(),
    "[": () => setWindow(level - 20, width), "]": () => setWindow(level + 20, width), "{": () => setWindow(level, width - 40), "}": () => setWindow(level, width + 40),
    "<": () => { state.divider = Math.max(0, state.divider - 0.05); draw(); }, ">": () => { state.divider = Math.min(1, state.divider + 0.05); draw(); },
    " ": () => { state.second = !state.second; draw(); },
  }[event.key];
  if ((!arrow && !other) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (other) other();
  else if (event.shiftKey) pan(one, -20 * arrow[0], -20 * arrow[1]);
  else { const p = [...state.cross]; p[a] += arrow[0]; p[d] -= up * arrow[1]; go(p); }
}

// ---- controls
function connect() {
  data.images.forEach((image, number) => { for (const id of ["first", "second"]) at(id).append(new Option(image.name, number)); });
  at("second").value = data.images.length - 1;
  data.maps.forEach((one, number) => {
    at("map").append(new Option(one.name, String(number)));
    if (one.kind === "displacement") at("map").append(new Option(`${one.name}, arrows`, `${number} arrows`));
  });
  at("map").disabled = !data.maps.length;
  if (!data.worst_mm) at("points").querySelector("[value=residual]").remove();
  at("points").disabled = !data.marks.length;
  at("points").value = data.shown;
  at("called").textContent = data.called;
  at("plane").addEventListener("change", () => { state.plane = Number(at("plane").value); build(); });
  at("slice").addEventListener("input", () => { const p = [...state.cross]; p[state.plane] = Number(at("slice").value); go(p); });
  for (const id of ["view", "first", "second"]) at(id).addEventListener("change", build);
  for (const id of ["map", "points"]) at(id).addEventListener("change", draw);
  for (const id of ["level", "width"]) at(id).addEventListener("input", () => { at("window").value = "own"; draw(); });
  at("window").addEventListener("change", () => {
    const [level, width] = at("window").value.split(",").map(Number);
    if (width) { at("level").value = level; at("width").value = width; }
    draw();
  });
  at("in").addEventListener("click", () => zoom(1.25));
  at("out").addEventListener("click", () => zoom(0.8));
  at("whole").addEventListener("click", () => { state.zoom = 1; state.centre = centre(); draw(); });
  for (const button of document.querySelectorAll("button[data-go]")) {
    button.addEventListener("click", () => { go(button.dataset.go.split(" ").map(Number), state.zoom > 1); at("viewer").scrollIntoView({ block: "nearest" }); });
  }
  new ResizeObserver(draw).observe(at("panels"));
  setInterval(() => { if (view() === "flicker" && !matchMedia("(prefers-reduced-motion: reduce)").matches) { state.second = !state.second; draw(); } }, FLICKER_MS);
}

async function open() {
  for (const one of data.maps) {
    const raw = bytes(one.data);
    one.values = one.kind === "jacobian" ? raw : new Int8Array(raw.buffer);
  }
  connect();
  build();
  await Promise.all(data.images.map((image) => decoded(image).then(draw)));
  draw();
  requestAnimationFrame(() => requestAnimationFrame(() => { document.body.dataset.ready = "yes"; }));
}
open().catch((error) => { at("cross").textContent = `The images could not be shown in this browser (${error.message}).`; throw error; });
