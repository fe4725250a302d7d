"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const make = (tag, text = "", name = "") => {
    const made = document.createElement(tag);
    made.textContent = text;
    made.className = name;
    return made;
  };
  const PAGE = 100;  // rows drawn at a time
  const CASE = 0, VERDICT = 1, WHY = 2, FIRST = 3;  // cells of a row; the others are columns
  const byText = new Intl.Collator(undefined, { numeric: true }).compare;
  const columns = [
    { title: "case", shown: true }, { title: "verdict", shown: true }, { title: "why", shown: true },
    ...data.columns,
  ];
  columns.forEach((column, c) => {
    column.isNumber = c >= FIRST && data.rows.every((row) => typeof row[c] !== "string");
  });
  const state = { sort: VERDICT, down: false, first: 0, shown: [] };
  const unseen = new Set();  // verdicts that are not shown

  // ---- cells as text
  function text(row, c) {
    const value = row[c];
    if (value === null) return "";
    if (c === VERDICT) return data.words[value];
    return typeof value === "number" && columns[c].digits !== null ? value.toFixed(columns[c].digits) : String(value);
  }
  const searched = [];  // all text of a row, made when it is first asked for
  function all(i) {
    searched[i] ??= data.rows[i].map((_, c) => text(data.rows[i], c)).join("\n").toLowerCase();
    return searched[i];
  }

  // ---- which rows, in which order
  function key(value) {
    const number = typeof value === "string" && value.trim() ? Number(value) : value;
    return typeof number === "number" && !Number.isNaN(number) ? number : value;
  }
  function compare(a, b) {  // numbers before texts
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? -1 : 1;
    return byText(a, b);
  }
  function choose() {
    const words = at("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const keys = data.rows.map((row) => key(row[state.sort])), sign = state.down ? -1 : 1;
    state.shown = data.rows.map((_, i) => i)
      .filter((i) => !unseen.has(data.rows[i][VERDICT]) && words.every((word) => all(i).includes(word)))
      .sort((i, j) => keys[i] === null || keys[j] === null
        ? (keys[i] === null) - (keys[j] === null)  // what is not known comes last, either way
        : sign * compare(keys[i], keys[j]));
    state.first = 0;
    draw();
  }

  // ---- drawing
  function head() {
    at("head").textContent = "";
    columns.forEach((column, c) => {
      if (!column.shown) return;
      const cell = make("th", "", column.isNumber ? "number" : ""), button = make("button", column.title);
      cell.scope = "col";
      if (column.name && column.name !== column.title) button.title = column.name;
      button.type = "button";
      button.addEventListener("click", () => {
        state.down = state.sort === c && !state.down;
        state.sort = c;
        mark();
        choose();
      });
      cell.append(button);
      cell.dataset.column = c;
      at("head").append(cell);
    });
    mark();
  }
  function mark() {
    for (const cell of at("head").children) {
      if (Number(cell.dataset.column) !== state.sort) cell.removeAttribute("aria-sort");
      else cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    }
  }
  function link(words, href) {
    const made = make("a", words);
    made.href = href;
    return made;
  }
  function picture(i) {
    const figure = make("figure"), image = make("img"), caption = make("figcaption");
    image.src = "data:image/webp;base64," + data.previews[i];
    image.alt = `${data.rows[i][CASE]}: one slice, fixed, before, after`;
    for (const name of ["fixed", "before", "after"]) caption.append(make("span", name));
    figure.append(image, caption);
    return figure;
  }
  function cell(row, i, c) {
    if (c === CASE) {
      const made = make("th", data.links[i] ? "" : row[c]);
      made.scope = "row";
      if (data.links[i]) made.append(link(row[c], data.links[i]));
      return made;
    }
    const made = make("td", text(row, c), columns[c].isNumber ? "number" : "");
    if (c === VERDICT) made.className = "verdict " + text(row, c).replace(" ", "-");
    if (c === WHY) {
      made.className = "why";
      if (data.previews[i]) made.append(picture(i));
      else if (data.links[i] && data.pictured.includes(row[VERDICT])) {
        const more = make("p");
        more.append(link("images: open the report", data.links[i]));
        made.append(more);
      }
    }
    return made;
  }
  function draw() {
    const rows = document.createDocumentFragment(), last = Math.min(state.first + PAGE, state.shown.length);
    for (const i of state.shown.slice(state.first, last)) {
      const made = make("tr");
      columns.forEach((column, c) => { if (column.shown) made.append(cell(data.rows[i], i, c)); });
      rows.append(made);
    }
    at("body").replaceChildren(rows);
    const count = state.shown.length.toLocaleString("en"), every = data.rows.length.toLocaleString("en");
    const of = state.shown.length < data.rows.length ? `${count} cases found among ${every}` : `${every} cases`;
    at("where").textContent = last ? `${state.first + 1} to ${last} of ${of}` : `no case found among ${every}`;
    at("previous").disabled = state.first === 0;
    at("next").disabled = last === state.shown.length;
  }

  // ---- controls
  function checkbox(place, title, checked, changed) {
    const label = make("label"), box = make("input");
    box.type = "checkbox";
    box.checked = checked;
    box.addEventListener("change", () => changed(box.checked));
    label.append(box, title);
    place.append(label);
  }
  data.words.forEach((word, number) => {
    const count = data.rows.filter((row) => row[VERDICT] === number).length;
    if (!count) return;
    checkbox(at("verdicts"), `${word} (${count.toLocaleString("en")})`, true, (on) => {
      if (on) unseen.delete(number); else unseen.add(number);
      choose();
    });
  });
  columns.forEach((column, c) => {
    if (c !== CASE) checkbox(at("columns"), column.title, column.shown, (on) => { column.shown = on; head(); draw(); });
  });
  at("find").addEventListener("input", choose);
  for (const [id, by] of [["previous", -PAGE], ["next", PAGE]]) {
    at(id).addEventListener("click", () => {
      state.first += by;
      draw();
      at("cases").scrollIntoView();
    });
  }
  head();
  choose();
  document.body.dataset.ready = "yes";
})();
