"use strict";
(() => {
  const form = document.getElementById("costs"), table = document.getElementById("costs-table"), status = document.getElementById("cheapest");
  const {kind, positive, candidates} = JSON.parse(document.getElementById("cost-cells").textContent);
  const sliders = [...form.querySelectorAll("input[type=range]")];
  // Sliders are logarithmic: 1 to 1,000.
  const price = input => +(10 ** (3 * input.value / 100)).toPrecision(2);
  const shown = value => value === 0 ? "0" : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString() : String(+value.toPrecision(3));
  const percent = value => `${(100 * value).toFixed(1)}%`;
  // The cheapest action of one cell, in the order of preference of the service: the labels, then people.
  function decide(p, prices) {
    if (kind === "confidence") return (1 - p) * prices[0] <= prices[1] ? "decide" : "people";
    const negative = p * prices[1], positively = (1 - p) * prices[0], least = Math.min(negative, positively);
    if (prices[2] !== null && least > prices[2]) return "people";
    return positively < negative || (positively === negative && p >= 0.5) ? "positive" : "negative";
  }
  function evaluate(cells, effect, prices) {
    let n = 0, sum = 0, squares = 0, wrong = 0, handed = 0, worst = 0, from = null;
    const add = (count, cost, isWrong, isHanded) => { n += count; sum += count * cost; squares += count * cost * cost; wrong += isWrong ? count : 0; handed += isHanded ? count : 0; };
    for (const [thousandths, first, second] of cells) {
      const p = thousandths / 1000, action = decide(p, prices);
      worst = Math.max(worst, {people: prices[kind === "confidence" ? 1 : 2], decide: prices[0], positive: prices[0], negative: prices[1]}[action]);
      if (action === "people") add(first + second, prices[kind === "confidence" ? 1 : 2], false, true);
      else if (action === "decide") { add(first, prices[0], true, false); add(second, 0, false, false); }
      else if (action === "positive") { if (from === null) from = p; add(first, prices[0], true, false); add(second, 0, false, false); }
      else { add(first, 0, false, false); add(second, prices[1], true, false); }
    }
    // As if one more of the costliest errors that these actions can make had been seen: cases without an error aren't certain.
    const mean = sum / n, variance = Math.max(0, squares / n - mean * mean) + worst * worst / n;
    const half = 1.96 * Math.sqrt(variance * effect / n);
    return {cost: 1000 * mean, lower: 1000 * Math.max(0, mean - half), upper: 1000 * (mean + half), wrong: wrong / n, handed: handed / n, from};
  }
  function update() {
    const given = form.elements.price, prices = sliders.map(price);
    if (kind === "binary") prices.push(given.value === "" || !(+given.value >= 0) ? null : +given.value);
    sliders.forEach((input, i) => {
      input.closest(".slider").querySelector("output").textContent = shown(prices[i]);
      input.setAttribute("aria-valuetext", shown(prices[i]));
    });
    const rows = candidates.map(one => ({name: one.name, ...evaluate(one.cells.test, one.cells.design_effect, prices)})).sort((a, b) => a.cost - b.cost);
    table.replaceChildren(...rows.map((row, i) => {
      const line = document.createElement("tr"), name = document.createElement("th");
      name.scope = "row"; name.textContent = row.name; line.append(name);
      if (i === 0) line.className = "picked";
      const cells = [`${shown(row.cost)} [${shown(row.lower)}, ${shown(row.upper)}]`, percent(row.wrong), percent(row.handed)];
      if (kind === "binary") cells.push(row.from === null ? "never" : `from ${percent(row.from)}`);
      for (const text of cells) { const cell = document.createElement("td"); cell.className = "number"; cell.textContent = text; line.append(cell); }
      return line;
    }));
    const quoted = text => `"${(/^[=+\-@\t\r]/.test(text) ? "'" : "") + text.replaceAll('"', '""')}"`;  // no cell is a formula
    const lines = [...table.closest("table").rows].map(row => [...row.cells].map(cell => quoted(cell.textContent)).join(","));
    document.getElementById("costs-csv").href = "data:text/csv;charset=utf-8," + encodeURIComponent("\ufeff" + lines.join("\r\n"));
    const [best, ...others] = rows, close = others.filter(one => one.lower <= best.upper).map(one => one.name);
    status.textContent = `${best.name} is cheapest at these costs: ${shown(best.cost)} per 1,000 decisions [${shown(best.lower)}, ${shown(best.upper)}]` + (close.length ? `. Not clearly: the intervals overlap with ${close.length > 2 ? `${close.length} others` : close.join(" and ")}.` : ".");
  }
  form.onsubmit = event => event.preventDefault();
  form.oninput = update;
  update();
})();
