"use strict";
// Tabs: without this script the page shows all parts below each other, and the tabs are links to them.
(() => {
  const panels = [...document.querySelectorAll(".panel")], list = document.querySelector(".tabs div"), links = [...list.querySelectorAll("a")];
  document.documentElement.classList.add("tabbed");
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", "Parts of the report");
  links.forEach((link, i) => {
    link.setAttribute("role", "tab");
    link.id = `tab-${panels[i].id}`;
    link.setAttribute("aria-controls", panels[i].id);
    panels[i].setAttribute("role", "tabpanel");
    panels[i].setAttribute("aria-labelledby", link.id);
    panels[i].removeAttribute("aria-label");
  });
  function open(panel) {
    panels.forEach((one, i) => {
      const on = one === panel;
      one.classList.toggle("open", on);
      links[i].setAttribute("aria-selected", on);
      links[i].tabIndex = on ? 0 : -1;
    });
  }
  // A deep link may name a part, or anything inside one.
  function follow() {
    const target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    const panel = target && target.closest(".panel");
    if (!panel) { if (!panels.some(one => one.classList.contains("open"))) open(panels[0]); return; }
    open(panel);
    for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    if (target !== panel) target.scrollIntoView();
  }
  list.addEventListener("click", event => {
    const link = event.target.closest("a");
    if (!link) return;
    event.preventDefault();
    history.replaceState(null, "", link.hash);
    open(panels[links.indexOf(link)]);
  });
  list.addEventListener("keydown", event => {
    const here = links.indexOf(document.activeElement), to = {ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: links.length - 1}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const link = links[(to + links.length) % links.length];
    link.focus();
    link.click();
  });
  addEventListener("hashchange", follow);
  follow();
})();
// The sliders of a saved page, with a decision for each stop.
(() => {
  const form = document.getElementById("whatif-form");
  if (!form) return;
  form.hidden = false;
  form.onsubmit = event => event.preventDefault();
  const {stops, costs} = JSON.parse(document.getElementById("what-if-data").textContent), {stop, volume} = form.elements;
  const now = document.getElementById("verdict"), before = now.innerHTML, forests = document.querySelectorAll(".forest");
  const first = document.querySelector(".forest .subject");
  if (stop) stop.oninput = () => {
    const given = stop.value === stop.dataset.given, chosen = stops[stop.value];
    stop.parentElement.querySelector("output").textContent = chosen.label;
    stop.setAttribute("aria-valuetext", chosen.label);
    now.innerHTML = given ? before : chosen.html;
    document.getElementById("what-if-result").textContent = `${given ? "" : "What if: "}${now.querySelector("h1").textContent}.`;
    forests.forEach(forest => {
      forest.toggleAttribute("data-threshold", chosen.threshold !== null);
      forest.style.setProperty("--threshold", `${chosen.threshold}%`);
      forest.querySelectorAll("li[data-name]").forEach(row => row.classList.toggle("subject", given ? row === first : row.dataset.name === chosen.subject));
    });
  };
  if (volume) volume.oninput = () => {
    const chosen = costs[volume.value];
    volume.parentElement.querySelector("output").textContent = chosen.label;
    volume.setAttribute("aria-valuetext", chosen.label);
    document.getElementById("monthly").replaceChildren(...chosen.costs.flatMap(([name, cost]) => {
      const term = document.createElement("dt"), value = document.createElement("dd");
      term.textContent = name;
      value.textContent = cost;
      return [term, value];
    }));
  };
})();
