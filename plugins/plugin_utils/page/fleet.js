// The page is whole without this: it finds hosts by name, opens the one that was chosen, and tells how old the page is.
"use strict";
(() => {
  const MOST_HITS = 20, OLD_SECONDS = 300;
  const byId = (id) => document.getElementById(id);

  const showAge = () => {
    const seconds = Math.max(0, (Date.now() - Date.parse(document.body.dataset.readAt)) / 1000);
    const unit = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([size]) => seconds >= size) || [1, "s"];
    byId("age").textContent = ` (${Math.floor(seconds / unit[0])} ${unit[1]} ago)`;
    byId("age").className = seconds >= OLD_SECONDS ? "old" : "";
  };
  showAge();
  setInterval(showAge, 5000);

  const openTarget = () => {
    const target = location.hash.length > 1 && byId(location.hash.slice(1));
    if (!target) return;
    for (let part = target; part; part = part.parentElement) if (part.matches("details")) part.open = true;
    const own = target.querySelector(":scope > details");
    if (own) own.open = true;
    target.scrollIntoView();
    (own || target).querySelector("summary")?.focus({ preventScroll: true });
  };
  addEventListener("hashchange", openTarget);
  document.addEventListener("click", (event) => {
    const anchor = event.target.closest('a[href^="#"]');
    if (anchor && anchor.hash === location.hash) openTarget();
  });
  openTarget();

  const rows = new Map([...document.querySelectorAll(".host")].map((row) => [row.querySelector("b").textContent, row.id]));
  let hosts;
  const readHosts = () => {
    const data = JSON.parse(byId("fleet-data").textContent);
    const agents = new Map((data.fleet.agents || []).map((agent) => [agent.name, agent]));
    return Object.entries(data.kinds).flatMap(([kind, names]) =>
      names.map((name) => ({ kind, name, agent: agents.get(name) || {} })));
  };
  // Names and messages are anybody's: what is not seen, or turns a text round, is a question mark.
  const plain = (text) => String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
  const hit = ({ kind, name, agent }) => {
    const item = document.createElement("li"), row = rows.get(plain(name));
    const title = document.createElement(row ? "a" : "b");
    if (row) title.href = `#${row}`;
    item.className = kind;
    title.textContent = plain(name);
    const words = [agent.state || kind, String(agent.commitId || "").slice(0, 10), String(agent.message || "").slice(0, 200)];
    item.append(title, ` ${words.filter(Boolean).map(plain).join(" · ")}`);
    return item;
  };
  const find = () => {
    const word = byId("name").value.trim().toLowerCase();
    hosts = hosts || readHosts();
    const found = word ? hosts.filter(({ name }) => name.toLowerCase().includes(word)) : [];
    byId("hits").replaceChildren(...found.slice(0, MOST_HITS).map(hit));
    byId("found").textContent = word ? `${found.length} found${found.length > MOST_HITS ? `, the first ${MOST_HITS} are shown` : ""}` : "";
  };
  if (byId("find")) {
    byId("find").hidden = false;
    byId("name").addEventListener("input", find);
  }

  const seconds = Number(document.body.dataset.reload);
  if (seconds) {
    const timer = setInterval(() => byId("name")?.value || location.reload(), seconds * 1000);
    byId("pause").hidden = false;
    byId("pause").addEventListener("click", () => {
      clearInterval(timer);
      byId("pause").disabled = true;
    });
  }
})();
