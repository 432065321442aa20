"use strict";
(() => {
  const svg = document.documentElement, width = +svg.dataset.width, letter = +svg.dataset.letter;
  const boxes = [...document.querySelectorAll("g[data-name]")].map((g) => ({
    g, rect: g.querySelector("rect"), text: g.querySelector("text"), name: g.dataset.name,
    x: +g.dataset.x, w: +g.dataset.w, depth: +g.dataset.d}));
  const about = document.getElementById("about"), search = document.getElementById("search");

  // Enlarge a box to the whole width, with what is above it; what is below it is shown in grey.
  const enlarge = (box) => {
    for (const other of boxes) {
      const inside = other.x >= box.x - .01 && other.x + other.w <= box.x + box.w + .01 && other.depth >= box.depth;
      const below = other.depth < box.depth && other.x <= box.x + .01 && other.x + other.w >= box.x + box.w - .01;
      other.g.style.display = inside || below ? "" : "none";
      other.g.classList.toggle("past", below);
      if (!inside && !below) continue;
      const x = below ? 0 : (other.x - box.x) / box.w * width, w = below ? width : other.w / box.w * width;
      other.rect.setAttribute("x", x);
      other.rect.setAttribute("width", w);
      other.text.setAttribute("x", x + 3);
      const letters = Math.floor((w - 4) / letter);
      other.text.textContent = letters < 3 ? ""
        : other.name.length <= letters ? other.name : other.name.slice(0, letters - 1) + "…";
    }
  };
  const find = () => {
    const wanted = search.value.toLowerCase();
    let sum = 0, end = -1;
    for (const box of boxes.slice().sort((a, b) => a.depth - b.depth || a.x - b.x))
      box.g.classList.toggle("found", wanted !== "" && box.name.toLowerCase().includes(wanted));
    for (const box of boxes.filter((box) => box.g.classList.contains("found")).sort((a, b) => a.x - b.x || b.w - a.w))
      if (box.x >= end - .01) { sum += box.w; end = box.x + box.w; }
    about.textContent = wanted === "" ? "" : `in ${(100 * sum / width).toFixed(1)} % of all`;
  };
  for (const box of boxes) {
    box.g.addEventListener("click", () => enlarge(box));
    box.g.addEventListener("mouseover", () => {
      about.textContent = box.g.querySelector("title").textContent.split("\n")[0];
    });
  }
  search.addEventListener("input", find);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { search.value = ""; find(); enlarge(boxes[0]); }
    if (event.key === "f" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); search.focus(); }
  });
})();
