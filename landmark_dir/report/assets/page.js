"use strict";
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [nx, ny, nz] = data.size, mm = data.spacing;
  const at = (id) => document.getElementById(id);
  const AXES = [[1, 2], [0, 2], [0, 1]];  // across and down, for a cut through x, y, z
  const LETTERS = [["A", "H"], ["R", "H"], ["R", "A"]];
  const TILE_MM = 32, NEAR_PX = 9;

  // ---- volumes: one picture of tiles each, read back as voxels [z, y, x]
  async function voxels(packed) {
    const picture = new Image();
    picture.src = packed.src;
    await picture.decode();
    const canvas = document.createElement("canvas");
    canvas.width = picture.width; canvas.height = picture.height;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(picture, 0, 0);
    const values = new Uint8Array(nx * ny * nz);
    for (let k = 0; k < nz; k++) {
      const left = (k % packed.columns) * nx, top = Math.floor(k / packed.columns) * ny;
      const rgba = pen.getImageData(left, top, nx, ny).data;
      for (let i = 0; i < nx * ny; i++) values[k * nx * ny + i] = rgba[4 * i];
    }
    return values;
  }
  const volumes = [];
  for (const image of data.images) volumes.push(await voxels(image));
  for (const map of data.maps) map.values = Uint8Array.from(atob(map.data), (c) => c.charCodeAt(0));

  // ---- grey values
  function hu(grey) {
    const g = data.greys.grey, h = data.greys.hu;
    let i = 1;
    while (i < g.length - 1 && grey > g[i]) i++;
    return h[i - 1] + (grey - g[i - 1]) / (g[i] - g[i - 1]) * (h[i] - h[i - 1]);
  }
  function lookup(choice) {
    const table = new Uint8ClampedArray(256);
    const [low, high] = choice === "all" ? [0, 0] : choice.split(",").map(Number);
    for (let g = 0; g < 256; g++) table[g] = choice === "all" ? g : 255 * (hu(g) - low) / (high - low);
    return table;
  }

  // ---- one cut as a canvas of voxels; the head is up
  const state = { plane: 2, slice: [nx >> 1, ny >> 1, nz >> 1] };
  const shape = () => AXES[state.plane].map((axis) => data.size[axis]);
  function cut(read) {
    const [w, h] = shape(), canvas = document.createElement("canvas");
    canvas.width = w; canvas.height = h;
    const pen = canvas.getContext("2d"), image = pen.createImageData(w, h);
    const p = [0, 0, 0], [a, d] = AXES[state.plane];
    p[state.plane] = state.slice[state.plane];
    for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) {
      p[a] = x; p[d] = state.plane === 2 ? y : h - 1 - y;
      read(p, image.data, 4 * (y * w + x));
    }
    pen.putImageData(image, 0, 0);
    return canvas;
  }
  function greyCut(number) {
    const values = volumes[number], table = lookup(at("window").value);
    return cut((p, out, i) => {
      out[i] = out[i + 1] = out[i + 2] = table[values[(p[2] * ny + p[1]) * nx + p[0]]];
      out[i + 3] = 255;
    });
  }

  // ---- maps
  const WARM = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  const TWO = [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]];
  function colour(scale, share) {
    const at = Math.max(0, Math.min(0.9999, share)) * (scale.length - 1), i = Math.floor(at);
    return scale[i].map((value, c) => value + (at - i) * (scale[i + 1][c] - value));
  }
  function mapCut(map) {
    const [mx, my, mz] = map.size, scale = map.kind === "jacobian" ? TWO : WARM;
    return cut((p, out, i) => {
      const q = p.map((v, c) => Math.round((v * mm[c] - map.first[c]) / map.spacing[c]));
      if (q[0] < 0 || q[1] < 0 || q[2] < 0 || q[0] >= mx || q[1] >= my || q[2] >= mz) return;
      const value = map.values[(q[2] * my + q[1]) * mx + q[0]];
      const rgb = value ? colour(scale, (value - 1) / 254) : [255, 0, 255];
      out.set(rgb, i); out[i + 3] = 130;
    });
  }
  function bar() {
    const map = data.maps[at("map").value], box = at("bar");
    box.textContent = "";
    if (!map) return;
    const scale = map.kind === "jacobian" ? TWO : WARM, strip = document.createElement("i");
    strip.style.background = "linear-gradient(90deg," + scale.map((c) => `rgb(${c})`) + ")";
    const end = (v) => map.kind === "jacobian" ? (2 ** v).toPrecision(2) : v.toFixed(1) + " mm";
    const unit = map.kind === "jacobian" ? "determinant of dT/dx; magenta: folded" : "added by the b-spline";
    box.append(end(map.low), strip, end(map.high), " " + unit);
  }

  // ---- panels
  const panels = [];
  function panel(caption, numbers) {
    const figure = document.createElement("figure"), title = document.createElement("figcaption");
    const canvas = document.createElement("canvas");
    title.textContent = caption;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", caption);
    figure.append(title, canvas);
    at("panels").append(figure);
    const made = { canvas, numbers, dots: [] };
    canvas.addEventListener("wheel", (e) => { e.preventDefault(); step(Math.sign(e.deltaY)); }, { passive: false });
    canvas.addEventListener("pointermove", (e) => { drag(e, made); hover(e, made); });
    canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); drag(e, made); });
    canvas.addEventListener("pointerleave", () => { at("tip").style.display = "none"; });
    panels.push(made);
  }
  function build() {
    panels.length = 0;
    at("panels").textContent = "";
    const two = at("mode").value !== "side";
    at("panels").className = two ? "one" : "";
    for (const label of document.querySelectorAll(".two")) label.style.display = two ? "" : "none";
    if (two) {
      const pair = [Number(at("left").value), Number(at("right").value)];
      panel(pair.map((n) => data.images[n].name).join("  |  "), pair);
    } else data.images.forEach((image, number) => panel(image.name, [number]));
    draw();
  }
  function draw() {
    const [w, h] = shape(), [a, d] = AXES[state.plane];
    const scale = 720 / Math.max(w * mm[a], h * mm[d]);
    const W = Math.round(w * mm[a] * scale), H = Math.round(h * mm[d] * scale);
    const map = data.maps[at("map").value], over = map ? mapCut(map) : null;
    for (const one of panels) {
      one.canvas.width = W; one.canvas.height = H;
      const pen = one.canvas.getContext("2d");
      one.numbers.forEach((number, side) => {
        pen.save();
        if (side) { pen.beginPath(); clip(pen, W, H, scale); pen.clip(); }
        pen.drawImage(greyCut(number), 0, 0, W, H);
        pen.restore();
      });
      if (over && one.numbers[0] !== 1) pen.drawImage(over, 0, 0, W, H);
      if (at("points").checked) dots(one, pen, W / w, H / h, h);
      if (at("mode").value === "swipe") {
        const x = W * at("divider").value / 100;
        pen.fillStyle = "#fff"; pen.fillRect(x - 1, 0, 2, H);
      }
      pen.fillStyle = "#fc6"; pen.font = "16px system-ui, sans-serif";
      pen.fillText(LETTERS[state.plane][0], 6, H / 2);
      pen.fillText(LETTERS[state.plane][1], W / 2, 18);
    }
    const k = state.slice[state.plane];
    at("slice").max = data.size[state.plane] - 1;
    at("slice").value = k;
    at("where").textContent = ` ${k + 1} of ${data.size[state.plane]}`;
    bar();
  }
  function clip(pen, W, H, scale) {
    if (at("mode").value === "swipe") {
      const x = W * at("divider").value / 100;
      pen.rect(x, 0, W - x, H);
      return;
    }
    const tile = TILE_MM * scale;
    for (let j = 0; j * tile < H; j++) for (let i = j % 2; i * tile < W; i += 2) pen.rect(i * tile, j * tile, tile, tile);
  }
  function dots(one, pen, sx, sy, h) {
    one.dots = [];
    const [a, d] = AXES[state.plane], moved = one.numbers.length === 1 && one.numbers[0] === 1 ? 3 : 0;
    for (const mark of data.landmarks) {
      const away = Math.abs(mark[moved + state.plane] - state.slice[state.plane]) * mm[state.plane];
      if (away > Math.max(1, mm[state.plane] / 2)) continue;
      const x = (mark[moved + a] + 0.5) * sx, v = mark[moved + d];
      const y = (state.plane === 2 ? v + 0.5 : h - 0.5 - v) * sy;
      pen.beginPath(); pen.arc(x, y, 4, 0, 7);
      if (mark[9]) { pen.lineWidth = 2; pen.strokeStyle = mark[6]; pen.stroke(); }
      else { pen.fillStyle = mark[6]; pen.fill(); pen.lineWidth = 0.7; pen.strokeStyle = "#000"; pen.stroke(); }
      one.dots.push([x, y, mark]);
    }
  }
  function place(event, canvas) {  // where on the canvas, which may be letterboxed
    const box = canvas.getBoundingClientRect();
    const fit = Math.min(box.width / canvas.width, box.height / canvas.height);
    return [(event.clientX - box.left - (box.width - canvas.width * fit) / 2) / fit,
      (event.clientY - box.top - (box.height - canvas.height * fit) / 2) / fit, fit];
  }
  function drag(event, one) {
    if (at("mode").value !== "swipe" || !(event.buttons & 1)) return;
    at("divider").value = 100 * place(event, one.canvas)[0] / one.canvas.width;
    draw();
  }
  function hover(event, one) {
    const [x, y, fit] = place(event, one.canvas), tip = at("tip");
    let best = null, least = NEAR_PX / fit;
    for (const dot of one.dots) {
      const away = Math.hypot(dot[0] - x, dot[1] - y);
      if (away < least) { least = away; best = dot[2]; }
    }
    tip.style.display = best ? "block" : "none";
    if (!best) return;
    const left = best[8] === null ? "" : `, residual ${best[8].toFixed(2)} mm`;
    tip.textContent = `score ${best[7].toFixed(2)}${left}${best[9] ? ", held back" : ""}`;
    tip.style.left = Math.min(event.clientX + 14, innerWidth - 220) + "px";
    tip.style.top = event.clientY + 14 + "px";
  }
  function step(by) {
    const last = data.size[state.plane] - 1;
    state.slice[state.plane] = Math.max(0, Math.min(last, state.slice[state.plane] + by));
    draw();
  }

  // ---- controls
  data.images.forEach((image, number) => {
    for (const id of ["left", "right"]) at(id).append(new Option(image.name, number));
  });
  at("right").value = data.images.length - 1;
  data.maps.forEach((map, number) => at("map").append(new Option(map.name, number)));
  at("plane").addEventListener("change", () => { state.plane = Number(at("plane").value); draw(); });
  at("slice").addEventListener("input", () => { state.slice[state.plane] = Number(at("slice").value); draw(); });
  for (const id of ["mode", "left", "right"]) at(id).addEventListener("change", build);
  for (const id of ["window", "map", "points", "divider"]) at(id).addEventListener("input", draw);
  document.addEventListener("keydown", (e) => {
    if (["INPUT", "SELECT"].includes(e.target.tagName)) return;
    const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[e.key];
    if (by) { e.preventDefault(); step(by); }
  });
  build();
  document.body.dataset.ready = "yes";
})();
