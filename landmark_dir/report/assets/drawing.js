// Cuts through volumes and maps, as small canvases that the panels draw at their size.
const AXES = [[1, 2], [0, 2], [0, 1]];  // across and down, for a cut through x, y, z; the head is up
const CIVIDIS = [[0, 34, 78], [65, 77, 107], [125, 124, 120], [186, 174, 108], [254, 232, 56]];
const BLUE_RED = [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]];
const BLUE_ORANGE = [[86, 180, 233], [245, 245, 245], [230, 159, 0], [213, 94, 0]];  // seen on grey
const DIFFERENCE_HU = 300;

function colour(scale, share) {
  const where = Math.max(0, Math.min(0.9999, share)) * (scale.length - 1), i = Math.floor(where);
  return scale[i].map((value, c) => Math.round(value + (where - i) * (scale[i + 1][c] - value)));
}
const css = (rgb) => `rgb(${rgb.join(" ")})`;

function canvasOf(width, height, paint) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d"), image = pen.createImageData(width, height);
  paint(image.data);
  pen.putImageData(image, 0, 0);
  return canvas;
}

function walk(size, plane, k, visit) {  // visit(index in an array [z, y, x], place in the cut)
  const [a, d] = AXES[plane], strides = [1, size[0], size[0] * size[1]];
  for (let y = 0, i = 0; y < size[d]; y++) {
    const row = plane === 2 ? y : size[d] - 1 - y;
    let from = k * strides[plane] + row * strides[d];
    for (let x = 0; x < size[a]; x++, i += 4, from += strides[a]) visit(from, i);
  }
}

function greyTable(level, width) {
  return Uint8ClampedArray.from({ length: 256 }, (_, g) => level === null ? g : 255 * ((HU[g] - level) / width + 0.5));
}

function greyCut(image, plane, k, table) {
  const [a, d] = AXES[plane], values = image.values;
  return canvasOf(data.size[a], data.size[d], (out) => walk(data.size, plane, k, (from, i) => {
    out[i] = out[i + 1] = out[i + 2] = table[values[from]];
    out[i + 3] = 255;
  }));
}

function differenceCut(one, two, plane, k) {  // grey where equal, light where the second is denser
  const [a, d] = AXES[plane];
  return canvasOf(data.size[a], data.size[d], (out) => walk(data.size, plane, k, (from, i) => {
    const share = (HU[two.values[from]] - HU[one.values[from]]) / DIFFERENCE_HU;
    out[i] = out[i + 1] = out[i + 2] = 127.5 * (1 + Math.max(-1, Math.min(1, share)));
    out[i + 3] = 255;
  }));
}

function mapValue(map, i) {  // null: folded
  if (map.kind === "jacobian") return map.values[i] ? map.low + (map.values[i] - 1) / 254 * (map.high - map.low) : null;
  return Math.hypot(map.values[3 * i], map.values[3 * i + 1], map.values[3 * i + 2]) * map.step;
}

function nearest(map, plane, k) {  // the slice of a coarse map at a slice of the page
  return Math.max(0, Math.min(map.size[plane] - 1, Math.round((k * mm[plane] - map.first[plane]) / map.spacing[plane])));
}

function mapCut(map, plane, k) {
  const [a, d] = AXES[plane], scale = map.kind === "jacobian" ? BLUE_RED : CIVIDIS;
  return canvasOf(map.size[a], map.size[d], (out) => walk(map.size, plane, nearest(map, plane, k), (from, i) => {
    const value = mapValue(map, from);
    const rgb = value === null ? [0, 0, 0] : colour(scale, (value - map.low) / (map.high - map.low));
    out.set(rgb, i);
    out[i + 3] = value === null ? 255 : 120;
  }));
}

function folds(map, plane, k) {  // places in a cut, in voxels of the map
  const found = [], [a] = AXES[plane];
  walk(map.size, plane, nearest(map, plane, k), (from, i) => {
    if (map.kind === "jacobian" && !map.values[from]) found.push([i / 4 % map.size[a], Math.floor(i / 4 / map.size[a])]);
  });
  return found;
}
