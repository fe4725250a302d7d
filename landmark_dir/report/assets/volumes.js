"use strict";
// Volumes of the page: pictures of tiles read back as bytes [z, y, x], and what a byte means in HU.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const [nx, ny, nz] = data.size, mm = data.spacing;
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

async function decoded(image) {
  const picture = await createImageBitmap(new Blob([bytes(image.src)], { type: "image/webp" }));
  image.src = null;
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = ny;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const values = new Uint8Array(nx * ny * nz);
  for (let first = 0; first < nz; first += image.columns) {  // one row of tiles after the other
    pen.drawImage(picture, 0, -first / image.columns * ny);
    const rgba = new Uint32Array(pen.getImageData(0, 0, canvas.width, ny).data.buffer);
    for (let k = first; k < Math.min(nz, first + image.columns); k++) {
      for (let y = 0, to = k * nx * ny; y < ny; y++) {
        for (let from = y * canvas.width + (k - first) * nx, end = from + nx; from < end;) values[to++] = rgba[from++];
      }
    }
  }
  picture.close();
  image.values = values;
}

const HU = Float32Array.from({ length: 256 }, (_, grey) => {
  const g = data.greys.grey, h = data.greys.hu;
  let i = 1;
  while (i < g.length - 1 && grey > g[i]) i++;
  return h[i - 1] + (grey - g[i - 1]) / (g[i] - g[i - 1]) * (h[i] - h[i - 1]);
});

function huAt(image, p) {
  const [x, y, z] = p.map((value, axis) => Math.max(0, Math.min(data.size[axis] - 1, Math.round(value))));
  return image.values ? HU[image.values[(z * ny + y) * nx + x]] : null;
}

function lps(p) {  // millimetres of a voxel of the page
  const q = p.map((value, axis) => value * mm[axis]), m = data.direction;
  return [0, 1, 2].map((row) => data.origin[row] + m[3 * row] * q[0] + m[3 * row + 1] * q[1] + m[3 * row + 2] * q[2]);
}
