// The table of versions.
const cell = (tag, text, cls, label) => {
  const c = document.createElement(tag); c.textContent = text; if (cls) c.className = cls;
  if (label) c.dataset.label = label; return c;
};
const draw = () => {
  const table = document.createElement('table'), head = table.createTHead().insertRow(), body = table.createTBody();
  for (const name of ['Version', 'Made', 'From', 'Standing', 'KL', 'Win over base', 'Note', ''])
    head.append(cell('th', name));
  for (const v of props.value || []) {
    const row = body.insertRow(); if (v.live) row.className = 'live';
    const name = cell('td', v.name, 'name');
    row.append(name, cell('td', v.made, '', 'Made'), cell('td', v.parent, '', 'From'), cell('td', v.standing, 'tier ' + v.tier, 'Standing'),
      cell('td', v.kl, 'num', 'KL'), cell('td', v.win, 'num', 'Win over base'), cell('td', v.note, 'note', 'Note'));
    const last = row.insertCell(); last.className = 'act';
    if (v.live) last.append(cell('span', 'Live', 'badge'));
    else {
      const b = cell('button', 'Make live'); b.type = 'button'; b.setAttribute('aria-label', 'Make ' + v.name + ' live');
      b.onclick = () => { b.disabled = true; trigger('select', {version: v.version, value: v.name, index: 0}); };
      last.append(b);
    }
  }
  element.replaceChildren(table);
};
watch('value', draw); draw();
