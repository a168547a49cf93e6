"use strict";
(() => {
  const tip = document.getElementById("tip");

  function showTip(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(6, Math.min(x + 14, innerWidth - box.width - 6)) + "px";
    tip.style.top = (y + box.height + 24 > innerHeight ? y - box.height - 12 : y + 18) + "px";
  }
  function hideTip() { tip.hidden = true; }

  document.addEventListener("pointermove", (event) => {
    if (event.target.closest("#item-map")) return;
    const told = event.target.closest("[data-tip]");
    if (told) showTip(told.dataset.tip, event.clientX, event.clientY); else hideTip();
  });
  document.addEventListener("pointerdown", (event) => {
    const told = event.target.closest("[data-tip]");
    if (told) showTip(told.dataset.tip, event.clientX, event.clientY);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
  addEventListener("scroll", hideTip, { passive: true });

  const map = document.getElementById("item-map");
  if (!map) return;
  const labels = JSON.parse(document.getElementById("map-labels").textContent);
  const dots = Array.from(map.querySelectorAll("path"));
  const places = dots.map((dot) => dot.getAttribute("d").slice(1).split("h")[0].split(" ").map(Number));
  const whole = map.viewBox.baseVal.width;
  const reach = 22; // pixels from the pointer within which an item is meant
  let view = [0, 0, whole];
  let here = null;
  let drag = null;

  function show([x, y, size]) {
    const kept = Math.min(whole, Math.max(whole / 40, size));
    view = [Math.min(whole - kept, Math.max(0, x)), Math.min(whole - kept, Math.max(0, y)), kept];
    map.setAttribute("viewBox", `${view[0]} ${view[1]} ${kept} ${kept}`);
    map.classList.toggle("zoomed", kept < whole);
  }
  function zoom(factor, x = view[0] + view[2] / 2, y = view[1] + view[2] / 2) {
    const size = Math.min(whole, Math.max(whole / 40, view[2] * factor));
    const share = size / view[2];
    show([x - (x - view[0]) * share, y - (y - view[1]) * share, size]);
  }
  function toMap(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
    return [point.x, point.y, 1 / map.getScreenCTM().a];
  }
  function nearestTo([x, y, unit]) {
    let best = null, least = (reach * unit) ** 2;
    places.forEach(([px, py], index) => {
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least && !dots[index].classList.contains("off")) { least = far; best = index; }
    });
    return best;
  }
  function point(index, event) {
    if (here !== null) dots[here].classList.remove("here");
    here = index;
    if (index === null) { hideTip(); return; }
    dots[index].classList.add("here");
    const [name, group, events] = labels[index];
    showTip(`${name}\n${group ? group + " · " : ""}${events}`, event.clientX, event.clientY);
  }

  map.addEventListener("pointermove", (event) => {
    if (!drag) { point(nearestTo(toMap(event)), event); return; }
    const unit = 1 / map.getScreenCTM().a;
    show([drag.x - (event.clientX - drag.left) * unit, drag.y - (event.clientY - drag.top) * unit, view[2]]);
  });
  map.addEventListener("pointerdown", (event) => {
    point(nearestTo(toMap(event)), event);
    if (view[2] < whole) {
      drag = { x: view[0], y: view[1], left: event.clientX, top: event.clientY };
      map.setPointerCapture(event.pointerId);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) map.addEventListener(end, () => { drag = null; });
  map.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") point(null, event); });
  map.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && view[2] === whole) return; // the page scrolls; Ctrl and the wheel zoom
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, ...toMap(event));
  }, { passive: false });
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => {
      if (button.dataset.zoom === "all") show([0, 0, whole]); else zoom(button.dataset.zoom === "in" ? 0.6 : 1 / 0.6);
    });
  }

  const legend = Array.from(document.querySelectorAll(".map-legend button"));
  for (const button of legend) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const dot of map.querySelectorAll(".c" + button.dataset.group)) dot.classList.toggle("off", !shown);
      find();
    });
  }

  const field = document.getElementById("map-find");
  const told = document.getElementById("map-found");
  function find() {
    const wanted = field.value.trim().toLowerCase();
    let found = 0;
    dots.forEach((dot, index) => {
      const fits = wanted !== "" && !dot.classList.contains("off") && labels[index][0].toLowerCase().includes(wanted);
      dot.classList.toggle("found", fits);
      found += fits ? 1 : 0;
    });
    map.classList.toggle("searching", wanted !== "");
    told.textContent = wanted === "" ? "" : `${found} ${found === 1 ? "item" : "items"} found`;
  }
  field.addEventListener("input", find);
})();
