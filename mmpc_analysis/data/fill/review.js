(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("review-data").textContent);
  const rows = data.rows;
  const byId = (id) => document.getElementById(id);
  const WORDS = { accept: "accepted", edit: "edited", reject: "rejected", open: "open" };

  // ---- what was decided: code -> {decision, title}, and what each step replaced
  let state = { decisions: {}, history: [], rater: "", keys: true };
  let kept = true;
  let asked = 0; // Decisions since the last download

  function restore() {
    try {
      const found = JSON.parse(window.localStorage.getItem(data.key) || "null");
      if (found && found.decisions && typeof found.decisions === "object" && Array.isArray(found.history)) state = Object.assign(state, found);
    } catch (error) {
      kept = !(error instanceof DOMException);
    }
  }

  function store() {
    try {
      window.localStorage.setItem(data.key, JSON.stringify(state));
      kept = true;
    } catch (error) {
      kept = false;
    }
    byId("unkept").hidden = kept;
  }

  const decided = (row) => state.decisions[row.code] || { decision: "open", title: "" };

  // ---- one row at a time
  let at = 0;

  function fill(id, text) {
    byId(id).textContent = text;
  }

  function items(id, parts) {
    byId(id).replaceChildren(...parts.map((part) => {
      const line = document.createElement("li");
      line.dir = "auto";
      line.textContent = part;
      return line;
    }));
    byId(id + "-part").hidden = parts.length === 0;
  }

  function picture(row) {
    const image = byId("picture");
    const uri = row.shown === null ? "" : data.pictures[row.shown];
    image.hidden = !uri;
    byId("absent").hidden = Boolean(uri);
    if (uri) {
      image.src = uri;
      image.alt = "Picture of the product in row " + row.row;
    } else {
      image.removeAttribute("src");
      fill("absent", row.absent);
    }
  }

  function show() {
    const row = rows[at];
    const now = decided(row);
    picture(row);
    fill("place", "Row " + row.row.toLocaleString("en") + " of " + data.total.toLocaleString("en"));
    fill("category", row.place);
    fill("item", row.item_id);
    fill("suggestion", row.suggestion);
    byId("suggestion").style.textDecoration = now.decision === "reject" ? "line-through" : "";
    byId("meter").value = row.share === null ? 0 : row.share;
    byId("meter").hidden = row.share === null;
    fill("likely", row.likely.charAt(0).toUpperCase() + row.likely.slice(1) + (row.confidence ? " (" + row.confidence + ")" : ""));
    items("reasons", row.reasons ? row.reasons.split(data.between) : []);
    items("cells", row.other_cells ? row.other_cells.split(data.between) : []);
    const badge = byId("state");
    badge.textContent = WORDS[now.decision];
    badge.className = "state " + now.decision;
    badge.hidden = now.decision === "open";
    byId("edited").hidden = now.decision !== "edit";
    fill("new-title", now.decision === "edit" ? now.title : "");
    byId("previous").disabled = at === 0;
    byId("next").disabled = at === rows.length - 1;
    byId("undo").disabled = state.history.length === 0;
    count();
  }

  function count() {
    const many = { accept: 0, edit: 0, reject: 0, open: 0 };
    rows.forEach((row) => { many[decided(row).decision] += 1; });
    const done = rows.length - many.open;
    byId("done").value = done;
    fill("count", done.toLocaleString("en") + " of " + rows.length.toLocaleString("en") + " decided");
    fill("counts", many.accept + " accepted, " + many.edit + " edited, " + many.reject + " rejected");
    byId("finished").hidden = many.open > 0;
  }

  function say(text) {
    fill("said", "");
    window.setTimeout(() => fill("said", text), 30); // The same words twice are said twice
  }

  function go(place, words) {
    leave();
    at = Math.max(0, Math.min(rows.length - 1, place));
    show();
    mark();
    window.scrollTo({ top: 0 });
    say((words ? words + " " : "") + "Row " + rows[at].row + ": " + rows[at].suggestion);
  }

  function nextOpen() {
    for (let step = 1; step <= rows.length; step += 1) {
      const place = (at + step) % rows.length;
      if (decided(rows[place]).decision === "open") return place;
    }
    return at;
  }

  // ---- deciding
  function decide(decision, title) {
    const row = rows[at];
    const before = decided(row);
    if (before.decision !== decision || before.title !== title) {
      state.history.push([row.code, state.decisions[row.code] || null]);
      state.decisions[row.code] = { decision: decision, title: title };
      asked += 1;
      store();
    }
    const open = nextOpen();
    go(open, "Row " + row.row + " " + WORDS[decision] + "." + (open === at ? " Every row is decided." : ""));
  }

  function undo() {
    const last = state.history.pop();
    if (!last) return say("Nothing to undo.");
    if (last[1]) state.decisions[last[0]] = last[1];
    else delete state.decisions[last[0]];
    asked += 1;
    store();
    const place = rows.findIndex((row) => row.code === last[0]);
    go(place < 0 ? at : place, "Undone.");
  }

  // ---- editing
  const text = byId("text");
  const tidy = (value) => value.replace(/\s+/g, " ").trim();

  function edit() {
    const now = decided(rows[at]);
    text.value = now.decision === "edit" ? now.title : rows[at].suggestion;
    byId("editor").hidden = false;
    document.body.classList.add("editing");
    judge();
    text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
    byId("editor").scrollIntoView({ block: "nearest" });
  }

  function leave() {
    const inside = byId("editor").contains(document.activeElement);
    byId("editor").hidden = true;
    document.body.classList.remove("editing");
    if (inside) byId("suggestion").focus({ preventScroll: true });
  }

  // What a spreadsheet would run, as in the package's tables for people
  const FORMULA = /^(?:[\s"'`‘’“”«»\x00-\x1f\x7f\xad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*[=+\-@|％＝＋－＠﹦﹢﹣﹫]|[\t\r\n])/;
  const NUMBER = /^[+-]?(?:\d+(?:[.,]\d+)*|[.,]\d+)(?:[eE][+-]?\d+)?%?$/;
  const runs = (value) => FORMULA.test(value) && !NUMBER.test(value);

  function judge() {
    const value = tidy(text.value);
    const long = Array.from(value).length;
    const wrong = [];
    if (!value) wrong.push("There is no title yet: write one, or leave and reject.");
    if (long > data.limit) wrong.push(data.limited + " takes " + data.limit + " characters, this has " + (long - data.limit) + " more.");
    if (runs(value)) wrong.push("A title that begins so can run as a formula; it will not be written.");
    fill("length", long + " of " + data.limit + " characters");
    byId("length").className = long > data.limit ? "warn" : "quiet";
    fill("warnings", wrong.join(" "));
    text.setAttribute("aria-invalid", String(wrong.length > 0));
    return value;
  }

  function save() {
    const value = judge();
    if (!value) return text.focus();
    leave();
    if (value === tidy(rows[at].suggestion)) decide("accept", "");
    else decide("edit", value);
  }

  // ---- the file
  const guarded = (cell) => (runs(cell) ? "'" + cell : cell);

  function csv() {
    const cells = [data.columns].concat(rows.map((row) => data.columns.map((name) => {
      const now = decided(row);
      if (name === "decision") return now.decision === "open" ? "" : now.decision;
      if (name === "new_title") return now.decision === "edit" ? now.title : "";
      if (name === "rater") return now.decision === "open" ? "" : tidy(state.rater);
      return String(row[name]);
    })));
    const quoted = (cell) => (/[",\r\n]/.test(cell) ? '"' + cell.replace(/"/g, '""') + '"' : cell);
    return "\ufeff" + cells.map((line) => line.map((cell) => quoted(guarded(cell))).join(",")).join("\n") + "\n";
  }

  function download() {
    const link = document.createElement("a");
    const address = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
    link.href = address;
    link.download = data.file;
    document.body.append(link);
    link.click();
    link.remove();
    window.setTimeout(() => URL.revokeObjectURL(address), 60000);
    asked = 0;
    say("Downloaded " + data.file + ".");
  }

  // ---- the list of all rows, made when it is opened
  function entry(row, place) {
    const line = document.createElement("li");
    const button = document.createElement("button");
    const parts = [String(row.row), "", row.suggestion].map((part) => {
      const span = document.createElement("span");
      span.dir = "auto";
      span.textContent = part;
      return span;
    });
    button.type = "button";
    button.append(...parts);
    button.addEventListener("click", () => go(place));
    line.append(button);
    return line;
  }

  function mark() {
    const list = byId("list");
    if (!byId("all").open) return;
    if (!list.children.length) list.append(...rows.map(entry));
    const wanted = byId("filter").value;
    rows.forEach((row, place) => {
      const line = list.children[place];
      const now = decided(row).decision;
      line.hidden = wanted !== "all" && wanted !== now;
      line.firstChild.setAttribute("aria-current", String(place === at));
      line.firstChild.children[1].textContent = WORDS[now];
    });
  }

  function jump() {
    const number = Number(byId("number").value);
    const place = rows.findIndex((row) => row.row === number);
    if (place < 0) return say("There is no row " + byId("number").value + " here.");
    byId("number").value = "";
    byId("suggestion").focus({ preventScroll: true });
    return go(place);
  }

  // ---- keys and buttons
  const actions = {
    a: () => decide("accept", ""),
    e: edit,
    r: () => decide("reject", ""),
    u: undo,
    n: () => go(nextOpen()),
    g: () => byId("number").focus(),
    d: download,
    arrowright: () => go(at + 1),
    arrowleft: () => go(at - 1),
  };

  document.addEventListener("keydown", (event) => {
    if (event.target === text) {
      if (event.key === "Enter" && !event.isComposing) { event.preventDefault(); save(); }
      if (event.key === "Escape") { event.preventDefault(); leave(); }
      return;
    }
    if (event.target === byId("number") && event.key === "Enter") { event.preventDefault(); jump(); return; }
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== "checkbox") return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !state.keys) return;
    const key = event.key.toLowerCase();
    const action = actions[key] || (/^[a-z]$/.test(key) ? null : actions[event.code.replace("Key", "").toLowerCase()]);
    if (!action) return;
    event.preventDefault();
    action();
  });

  const clicks = { accept: actions.a, edit: edit, reject: actions.r, undo: undo, next: actions.arrowright, previous: actions.arrowleft, save: save, cancel: leave, jump: jump, download: download };
  Object.keys(clicks).forEach((id) => byId(id).addEventListener("click", () => clicks[id]()));
  document.querySelectorAll(".download").forEach((button) => button.addEventListener("click", download));
  text.addEventListener("input", judge);
  byId("filter").addEventListener("change", mark);
  byId("all").addEventListener("toggle", mark);
  byId("rater").addEventListener("input", () => { state.rater = byId("rater").value; store(); });
  byId("keys").addEventListener("change", () => { state.keys = byId("keys").checked; store(); });
  window.addEventListener("storage", (event) => { // The same page in another tab
    if (event.key !== data.key) return;
    restore();
    show();
    mark();
  });
  window.addEventListener("beforeunload", (event) => {
    if (!kept && asked) event.preventDefault();
  });

  restore();
  store();
  byId("rater").value = state.rater;
  byId("keys").checked = state.keys;
  byId("review").hidden = false;
  at = decided(rows[0]).decision === "open" ? 0 : nextOpen();
  show();
})();
