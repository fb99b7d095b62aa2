const all = (what, home = document) => home.querySelectorAll(what);
all(".sort").forEach(t => {
  const heads = all("thead th", t), body = t.tBodies[0];
  heads.forEach((head, i) => {
    const b = document.createElement("button");
    const key = (row, s = row.cells[i].textContent.replace(/[,<]/g, ""), n = parseFloat(s)) => isNaN(n) ? s : n;
    b.append(...head.childNodes);
    head.append(b);
    b.onclick = () => {
      const up = head.ariaSort == "ascending" ? -1 : 1;
      heads.forEach(one => one.ariaSort = null);
      head.ariaSort = up > 0 ? "ascending" : "descending";
      body.append(...[...body.rows].sort((a, b) => (a = key(a), b = key(b), a > b ? up : a < b ? -up : 0)));
    };
  });
});
all(".copy").forEach(pre => {
  const b = document.createElement("button");
  b.textContent = "copy";
  b.onclick = async () => {
    try { await navigator.clipboard.writeText(pre.textContent); b.textContent = "copied"; }
    catch { getSelection().selectAllChildren(pre); }
  };
  pre.before(b);
});
onbeforeprint = () => all("details:not(.long)").forEach(d => d.open = 1);
