"use strict";
// The report's page: theme, copying, tables that sort, search and page, and links into closed details.
// Texts reach the page through textContent only.  Without this script everything but the further rows is readable.
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // --- theme: the system's until the button is pressed; pages from files may have no storage
  const stored = () => { try { return localStorage.getItem("observer-theme"); } catch { return null; } };
  const store = (value) => { try { localStorage.setItem("observer-theme", value); } catch { /* not remembered */ } };
  const wanted = stored();
  if (wanted === "dark" || wanted === "light") root.dataset.theme = wanted;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);

  function theme() {
    const button = document.getElementById("theme");
    const label = () => {
      button.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours");
    };
    button.hidden = false;
    label();
    dark.addEventListener("change", label);
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      store(root.dataset.theme);
      label();
    });
  }

  // --- copying
  let silence = 0;
  function say(text) {
    const place = document.getElementById("said");
    place.textContent = text;
    clearTimeout(silence);
    silence = setTimeout(() => { place.textContent = ""; }, 2000);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }

  function copying() {
    for (const button of document.querySelectorAll("button.copy")) {
      button.addEventListener("click", async () => {
        const done = await copy(button.dataset.copy);
        button.focus();
        say(done ? "Copied" : "The browser does not let this page copy");
      });
    }
  }

  // --- tables
  const shown = (cell) => String(Array.isArray(cell) ? cell[0] : cell);
  const sortKey = (cell) => (Array.isArray(cell) ? cell[1] : cell);

  function compare(a, b) {
    const left = sortKey(a), right = sortKey(b);
    const empty = Number(left === "") - Number(right === "");
    if (empty) return { order: empty, fixed: true }; // empty cells stay last, either way
    if (typeof left === "number" && typeof right === "number") return { order: left - right, fixed: false };
    return { order: shown(a).localeCompare(shown(b), "en", { numeric: true }), fixed: false };
  }

  function badge(cell, text, symbols) {
    const made = document.createElement("span");
    made.className = `badge ${text}`;
    const symbol = document.createElement("span");
    symbol.setAttribute("aria-hidden", "true");
    symbol.textContent = symbols[text] || "";
    made.append(symbol, ` ${text === "info" ? "note" : text}`);
    cell.append(made);
  }

  class DataTable {
    constructor(table) {
      this.section = table.closest("section");
      this.body = table.tBodies[0];
      this.heads = [...table.tHead.rows[0].cells];
      this.data = JSON.parse(document.getElementById(table.dataset.from).textContent);
      this.texts = this.data.rows.map((row) => row.map(shown).join(" ").toLowerCase());
      this.ladders = new Set(this.data.ladders);
      this.order = this.data.rows.map((_, row) => row);
      this.begin = 0;
      this.column = -1;
      this.down = false;
      this.tools();
      this.sorting();
      this.section.querySelector(".first-rows")?.remove();
      this.draw();
    }

    tools() {
      const tools = this.section.querySelector(".tools");
      tools.hidden = false;
      this.input = tools.querySelector("input");
      this.count = tools.querySelector(".shown");
      this.previous = tools.querySelector(".previous");
      this.next = tools.querySelector(".next");
      this.input.addEventListener("input", () => this.search());
      this.previous.addEventListener("click", () => this.turn(-1));
      this.next.addEventListener("click", () => this.turn(1));
      tools.querySelector(".pager").hidden = this.data.rows.length <= this.data.page;
    }

    sorting() {
      this.heads.forEach((head, column) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = head.textContent;
        if (head.title) button.title = head.title;
        head.replaceChildren(button);
        head.setAttribute("aria-sort", "none");
        button.addEventListener("click", () => this.sort(column));
      });
    }

    sort(column) {
      this.down = this.column === column && !this.down;
      this.column = column;
      this.heads.forEach((head, i) => {
        head.setAttribute("aria-sort", i !== column ? "none" : this.down ? "descending" : "ascending");
      });
      this.search();
    }

    search(text) {
      if (text !== undefined) this.input.value = text;
      const words = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = [];
      this.texts.forEach((all, row) => { if (words.every((word) => all.includes(word))) found.push(row); });
      if (this.column >= 0) {
        const rows = this.data.rows;
        found.sort((a, b) => {
          const { order, fixed } = compare(rows[a][this.column], rows[b][this.column]);
          return (fixed || !this.down ? order : -order) || a - b;
        });
      }
      this.order = found;
      this.begin = 0;
      this.draw();
    }

    turn(pages) {
      this.begin += pages * this.data.page;
      this.draw();
    }

    draw() {
      const page = this.order.slice(this.begin, this.begin + this.data.page);
      this.body.replaceChildren(...page.map((row) => this.row(this.data.rows[row])));
      const total = this.order.length.toLocaleString("en");
      const all = this.data.rows.length.toLocaleString("en");
      const span = page.length ? `${(this.begin + 1).toLocaleString("en")}–${(this.begin + page.length).toLocaleString("en")} of ` : "";
      this.count.textContent = `${span}${total}${total === all ? "" : ` (of ${all})`} rows`;
      this.previous.disabled = this.begin === 0;
      this.next.disabled = this.begin + this.data.page >= this.order.length;
    }

    row(cells) {
      const line = document.createElement("tr");
      cells.forEach((value, column) => {
        const kind = this.data.kinds[column], text = shown(value), cell = line.insertCell();
        cell.className = kind;
        if (kind === "severity") badge(cell, text, this.data.symbols);
        else if (kind === "state") {
          const state = document.createElement("span");
          state.className = `state s-${text.replaceAll("-", "_").replace("?", "")}`;
          state.textContent = text;
          cell.append(state);
        } else if (kind === "stream" && this.ladders.has(value)) {
          const link = document.createElement("a");
          link.href = `#ladder-${value}`;
          link.textContent = text;
          cell.append(link);
        } else cell.textContent = text;
      });
      return line;
    }
  }

  function tables() {
    const made = new Map();
    for (const table of document.querySelectorAll("table.data")) made.set(table.closest("section").id, new DataTable(table));
    for (const button of document.querySelectorAll("button.find")) {
      const table = made.get(button.dataset.table);
      if (!table) continue;
      button.hidden = false;
      button.addEventListener("click", () => {
        table.search(button.dataset.text);
        table.section.scrollIntoView();
        table.input.focus({ preventScroll: true });
      });
    }
  }

  // --- what is closed opens when a link leads there, and for the printer
  function reveal() {
    const id = decodeURIComponent(location.hash.slice(1));
    const target = id && document.getElementById(id);
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at instanceof HTMLDetailsElement) at.open = true;
    target.scrollIntoView();
    const focus = target.querySelector("summary, .figure");
    if (focus) focus.focus({ preventScroll: true });
  }

  function following() {
    window.addEventListener("hashchange", reveal);
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.("a[href^='#']");
      if (link && link.hash === location.hash) reveal(); // the same link again changes no hash
    });
    reveal();
  }

  function printing() {
    let opened = [];
    window.addEventListener("beforeprint", () => {
      opened = [...document.querySelectorAll("main details:not([open])")];
      for (const one of opened) one.open = true;
    });
    window.addEventListener("afterprint", () => {
      for (const one of opened) one.open = false;
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    theme();
    copying();
    tables();
    following();
    printing();
  });
})();
